"""Exit 0 if the address given answers with HTTP status 200; the images have no curl."""

import sys
import urllib.request

with urllib.request.urlopen(sys.argv[1], timeout=4) as response:  # noqa: S310 the compose file gives the address
    sys.exit(response.status != 200)
