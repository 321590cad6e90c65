"""AWS for the pictures: moto with a MemoryDB cluster and answers of Athena, and a configuration that asks it.

Arguments: the port of moto, and the folder of the configuration. Prints nothing; ends with its parent.
"""

import json
import pathlib
import sys
import urllib.request

import boto3

port, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
endpoint = f"http://127.0.0.1:{port}"
countries = {"JP": 21_410, "TH": 34_032, "PH": 25_871, "ID": 30_118, "VN": 10_734}


def aws(service):
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return boto3.client(service, endpoint_url=endpoint, region_name="eu-west-1", **keys)


def answer_of_athena():
    row = lambda *values: {"Data": [{"VarCharValue": str(value)} for value in values]}
    column = lambda name, kind: {"CatalogName": "hive", "SchemaName": "", "TableName": "", "Name": name, "Label": name, "Type": kind,
                                 "Precision": 10, "Scale": 0, "Nullable": "UNKNOWN", "CaseSensitive": False}
    rows = [row("country", "devices"), *(row(*pair) for pair in countries.items())]
    return {"rows": rows, "column_info": [column("country", "varchar"), column("devices", "bigint")]}


# An answer is used up by the query that gets it.
body = {"account_id": "123456789012", "region": "eu-west-1", "results": [answer_of_athena()] * 100}
request = urllib.request.Request(f"{endpoint}/moto-api/static/athena/query-results", json.dumps(body).encode(), {"Content-Type": "application/json"})
urllib.request.urlopen(request).read()
aws("s3").create_bucket(Bucket="results", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
memorydb = aws("memorydb")
for name, shards in [("sessions", 2), ("carts", 1)]:
    memorydb.create_cluster(ClusterName=name, NodeType="db.r7g.large", ACLName="open-access", NumShards=shards, NumReplicasPerShard=1)
    memorydb.create_snapshot(ClusterName=name, SnapshotName=f"{name}-nightly")

(folder / "datapulse.yml").write_text(f"""\
data_dir: data
checks:
  - athena_query:
      name: devices_lake
      every: 5s
      timeout: 4s
      database: lake
      output: s3://results/datapulse/
      budget: {{scanned_bytes_per_day: 50GB}}
      sql: "select country, count(distinct device) as devices from connections where hour = '2026-11-25-00' group by country"
      metrics: [{{name: device.connections, value: devices, labels: [country], help: "Devices that connected in the last full hour"}}]
      fill: {{country: [{", ".join(countries)}]}}
  - memorydb: {{name: stores, service: memorydb, clusters: [all], every: 5s, expect: {{replicas: 1}}}}
""")
