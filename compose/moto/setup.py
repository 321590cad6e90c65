"""Writes the parameters of the target orders-pub into moto's Parameter Store."""

import boto3

with open("/run/secrets/datapulse", encoding="ascii") as file:
    password = file.read()
parameters = {"hostname": "publisher", "port": "5432", "username": "datapulse", "password": password, "dbname": "shop"}
store = boto3.client("ssm")
for name, value in parameters.items():
    store.put_parameter(Name=f"/monitoring/orders-pub/{name}", Value=value, Type="SecureString", Overwrite=True)
