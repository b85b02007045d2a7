"""Publishes what S3 tells of uploads to RabbitMQ, as it is: the queue's messages become messages of the exchange `ingress`.

A message that cannot be published is named in the answer, stays in the queue and comes again.
"""

import json
import os
import urllib.parse

import boto3
import pika


def broker_url() -> str:
    """The broker's address, from the secret whose user may write to `ingress` alone."""
    secret = boto3.client("secretsmanager").get_secret_value(SecretId=os.environ["BROKER_SECRET"])
    return json.loads(secret["SecretString"])["broker-url"]


def handler(event, _context):
    """One batch of the queue."""
    failed = []
    url = broker_url()
    if urllib.parse.urlsplit(url).scheme != "amqps":
        raise ValueError("the broker's address has to be amqps")
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        for record in event["Records"]:
            try:
                channel.basic_publish(
                    "ingress",
                    "s3.notifications",
                    record["body"].encode(),
                    pika.BasicProperties(content_type="application/json", delivery_mode=2),
                    mandatory=True,
                )
            except (pika.exceptions.UnroutableError, pika.exceptions.NackError):
                failed.append({"itemIdentifier": record["messageId"]})
    finally:
        connection.close()
    return {"batchItemFailures": failed}
