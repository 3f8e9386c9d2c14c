-- POSTGRES_DB made the one of Prefect.
create database mlflow;
