"""S3 buckets with what is set on them, secrets, the policies of queues and topics."""

from __future__ import annotations

import json
import secrets
import string
from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError

from localdev.aws import call, client, fit
from localdev.cloudformation import Resource


class Bucket(Resource):
    """A bucket; moto's own type leaves out nearly all that is set on it."""

    type = "AWS::S3::Bucket"
    named_by = "BucketName"

    def create(self) -> None:
        s3 = client("s3")
        where = {} if self.region == "us-east-1" else {"LocationConstraint": self.region}
        s3.create_bucket(
            Bucket=self.name, **({"CreateBucketConfiguration": where} if where else {})
        )
        self.attributes = {
            "Arn": f"arn:aws:s3:::{self.name}",
            "DomainName": f"{self.name}.s3.amazonaws.com",
            "RegionalDomainName": f"{self.name}.s3.{self.region}.amazonaws.com",
            "DualStackDomainName": f"{self.name}.s3.dualstack.{self.region}.amazonaws.com",
            "WebsiteURL": f"http://{self.name}.s3-website-{self.region}.amazonaws.com",
        }
        self._set()

    def update(self) -> None:
        self._set()

    def remove(self) -> None:
        with suppress(client("s3").exceptions.NoSuchBucket):
            client("s3").delete_bucket(Bucket=self.name)

    def _set(self) -> None:
        given = self.properties
        if "VersioningConfiguration" in given:
            self._put(
                "put_bucket_versioning", VersioningConfiguration=given["VersioningConfiguration"]
            )
        if "BucketEncryption" in given:
            rules = given["BucketEncryption"]["ServerSideEncryptionConfiguration"]
            rules = [
                {
                    "ApplyServerSideEncryptionByDefault": rule["ServerSideEncryptionByDefault"],
                    "BucketKeyEnabled": str(rule.get("BucketKeyEnabled", False)).lower() == "true",
                }
                for rule in rules
            ]
            self._put("put_bucket_encryption", ServerSideEncryptionConfiguration={"Rules": rules})
        if "PublicAccessBlockConfiguration" in given:
            block = given["PublicAccessBlockConfiguration"]
            self._put("put_public_access_block", PublicAccessBlockConfiguration=block)
        if "LifecycleConfiguration" in given:
            rules = [_lifecycle(rule) for rule in given["LifecycleConfiguration"]["Rules"]]
            self._put("put_bucket_lifecycle_configuration", LifecycleConfiguration={"Rules": rules})
        if "CorsConfiguration" in given:
            self._put("put_bucket_cors", CORSConfiguration=given["CorsConfiguration"])
        if "Tags" in given:
            self._put("put_bucket_tagging", Tagging={"TagSet": given["Tags"]})
        if "NotificationConfiguration" in given:
            self._put(
                "put_bucket_notification_configuration",
                NotificationConfiguration=_notifications(given["NotificationConfiguration"]),
            )

    def _put(self, operation: str, **arguments: Any) -> None:
        call("s3", operation, {"Bucket": self.name, **arguments})


def _notifications(given: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    bridge = given.get("EventBridgeConfiguration")
    if bridge is not None and str(bridge.get("EventBridgeEnabled", True)).lower() == "true":
        found["EventBridgeConfiguration"] = {}
    for kind, arn in (("Queue", "Queue"), ("Topic", "Topic"), ("Lambda", "Function")):
        for one in given.get(f"{kind}Configurations", []):
            name = "LambdaFunction" if kind == "Lambda" else kind
            each = {f"{name}Arn": one[arn], "Events": [one["Event"]]}
            rules = one.get("Filter", {}).get("S3Key", {}).get("Rules")
            if rules:
                each["Filter"] = {"Key": {"FilterRules": rules}}
            found.setdefault(f"{name}Configurations", []).append(each)
    return found


def _lifecycle(rule: dict[str, Any]) -> dict[str, Any]:
    """Return a rule as the API has it: the template flattens what the API nests."""
    made: dict[str, Any] = {
        "ID": rule.get("Id", secrets.token_hex(8)),
        "Status": rule["Status"],
        "Filter": {"Prefix": rule.get("Prefix", "")},
    }
    expiration: dict[str, Any] = {}
    if "ExpirationInDays" in rule:
        expiration["Days"] = int(rule["ExpirationInDays"])
    if "ExpiredObjectDeleteMarker" in rule:
        expiration["ExpiredObjectDeleteMarker"] = True
    if expiration:
        made["Expiration"] = expiration
    old = rule.get("NoncurrentVersionExpiration")
    if old is not None:
        made["NoncurrentVersionExpiration"] = old
    abort = rule.get("AbortIncompleteMultipartUpload")
    if abort is not None:
        made["AbortIncompleteMultipartUpload"] = abort
    return made


class BucketPolicy(Resource):
    """A bucket's policy, without refusals that have a condition: moto would refuse everybody."""

    type = "AWS::S3::BucketPolicy"

    def create(self) -> None:
        policy = self.properties["PolicyDocument"]
        allowed = [
            each
            for each in policy["Statement"]
            if each["Effect"] == "Allow" or "Condition" not in each
        ]
        bucket = self.properties["Bucket"]
        self.id = f"{bucket}-policy"
        if allowed:
            client("s3").put_bucket_policy(
                Bucket=bucket, Policy=json.dumps({**policy, "Statement": allowed})
            )

    def remove(self) -> None:
        with suppress(ClientError):
            client("s3").delete_bucket_policy(Bucket=self.properties["Bucket"])


class EmptiedBucket(Resource):
    """The CDK's promise to empty a bucket before it is deleted, kept without its function."""

    type = "Custom::S3AutoDeleteObjects"

    def remove(self) -> None:
        s3, bucket = client("s3"), self.properties["BucketName"]
        with suppress(s3.exceptions.NoSuchBucket):
            for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
                for entry in page.get("Versions", []) + page.get("DeleteMarkers", []):
                    s3.delete_object(Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"])


class BucketNotifications(Resource):
    """The CDK's way to set a bucket's notifications, without its function."""

    type = "Custom::S3BucketNotifications"

    def create(self) -> None:
        client("s3").put_bucket_notification_configuration(
            Bucket=self.properties["BucketName"],
            NotificationConfiguration=self.properties["NotificationConfiguration"],
        )


class Secret(Resource):
    """A secret, generated where the template says how."""

    type = "AWS::SecretsManager::Secret"
    named_by = "Name"

    def create(self) -> None:
        given = {key: self.properties[key] for key in ("Description", "KmsKeyId", "Tags")
                 if key in self.properties}  # fmt: skip
        made = client("secretsmanager").create_secret(
            Name=self.name, SecretString=self._value(), **given
        )
        self.id = made["ARN"]
        self.attributes = {"Id": self.id, "Name": self.name, "Arn": self.id}

    def update(self) -> None:
        """Set a value that the template gives; one that was generated stays."""
        if "SecretString" in self.properties:
            client("secretsmanager").put_secret_value(
                SecretId=self.id, SecretString=self.properties["SecretString"]
            )

    def remove(self) -> None:
        with suppress(ClientError):
            client("secretsmanager").delete_secret(
                SecretId=self.id, ForceDeleteWithoutRecovery=True
            )

    def _value(self) -> str:
        how = self.properties.get("GenerateSecretString")
        if how is None:
            return str(self.properties.get("SecretString", ""))
        letters = string.ascii_letters + string.digits
        if str(how.get("ExcludePunctuation", False)).lower() != "true":
            letters += string.punctuation
        excluded = how.get("ExcludeCharacters", "")
        letters = "".join(each for each in letters if each not in excluded)
        made = "".join(secrets.choice(letters) for _ in range(int(how.get("PasswordLength", 32))))
        if "GenerateStringKey" not in how:
            return made
        template = json.loads(how.get("SecretStringTemplate", "{}"))
        return json.dumps({**template, how["GenerateStringKey"]: made})


class QueuePolicy(Resource):
    """Who may send to queues: it can be read back; nothing is refused here."""

    type = "AWS::SQS::QueuePolicy"

    def create(self) -> None:
        policy = json.dumps(self.properties["PolicyDocument"])
        for url in self.properties["Queues"]:
            client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})


class TopicPolicy(Resource):
    """Who may publish to topics: it can be read back; nothing is refused here."""

    type = "AWS::SNS::TopicPolicy"

    def create(self) -> None:
        policy = json.dumps(self.properties["PolicyDocument"])
        for arn in self.properties["Topics"]:
            client("sns").set_topic_attributes(
                TopicArn=arn, AttributeName="Policy", AttributeValue=policy
            )


class Subscription(Resource):
    """A subscription to a topic."""

    type = "AWS::SNS::Subscription"

    def create(self) -> None:
        shape = client("sns").meta.service_model.operation_model("Subscribe").input_shape
        made = client("sns").subscribe(**fit(shape, self.properties), ReturnSubscriptionArn=True)
        self.id = made["SubscriptionArn"]
        self.attributes = {"Arn": self.id}

    def remove(self) -> None:
        with suppress(ClientError):
            client("sns").unsubscribe(SubscriptionArn=self.id)
