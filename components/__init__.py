"""What Potstill is made of: plain functions and plugin files, none of which knows the orchestrator."""
