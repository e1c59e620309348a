"""The bucket, the token, and where they are."""

from __future__ import annotations

from aws_cdk.assertions import Match


def test_bucket_keeps_what_is_overwritten(templates):
    """The bucket is versioned, encrypted and closed to the public."""
    templates["storage"].has_resource_properties(
        "AWS::S3::Bucket",
        {
            "VersioningConfiguration": {"Status": "Enabled"},
            "BucketEncryption": {
                "ServerSideEncryptionConfiguration": [
                    {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
                ]
            },
            "PublicAccessBlockConfiguration": {
                "BlockPublicAcls": True,
                "BlockPublicPolicy": True,
                "IgnorePublicAcls": True,
                "RestrictPublicBuckets": True,
            },
            "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        },
    )


def test_bucket_refuses_plain_http(templates):
    """Nobody reads it without TLS, nor with an old one."""
    templates["storage"].has_resource_properties(
        "AWS::S3::BucketPolicy",
        {
            "PolicyDocument": {
                "Statement": Match.array_with(
                    [
                        Match.object_like(
                            {
                                "Effect": "Deny",
                                "Action": "s3:*",
                                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                            }
                        ),
                        Match.object_like(
                            {
                                "Effect": "Deny",
                                "Condition": {"NumericLessThan": {"s3:TlsVersion": 1.2}},
                            }
                        ),
                    ]
                )
            }
        },
    )


def test_bucket_forgets_what_was_deleted(templates, private):
    """Old versions, unfinished uploads and marks of deletion go by themselves; inputs if asked."""
    templates["storage"].has_resource_properties(
        "AWS::S3::Bucket",
        {
            "LifecycleConfiguration": {
                "Rules": [
                    {
                        "Id": "what-was-deleted",
                        "NoncurrentVersionExpiration": {"NoncurrentDays": 7},
                        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
                        "Status": "Enabled",
                    },
                    {
                        "Id": "marks-of-deletion",
                        "ExpiredObjectDeleteMarker": True,
                        "Status": "Enabled",
                    },
                    Match.object_like({"Id": "uploads-that-were-left"}),
                ]
            }
        },
    )
    (bucket,) = _of(private["storage"], "AWS::S3::Bucket")
    rules = bucket["Properties"]["LifecycleConfiguration"]["Rules"]
    assert {
        "Id": "inputs",
        "Prefix": "inbox/",
        "ExpirationInDays": 30,
        "Status": "Enabled",
    } in rules


def test_uploads_that_nobody_kept_are_forgotten(documents):
    """What was put by a signed URL, and never named, is deleted after a day."""
    (bucket,) = [
        each
        for each in documents["storage"]["Resources"].values()
        if each["Type"] == "AWS::S3::Bucket"
    ]
    rules = bucket["Properties"]["LifecycleConfiguration"]["Rules"]
    (rule,) = [each for each in rules if each.get("Prefix") == "coordinator/blobs/incoming/"]
    assert (rule["ExpirationInDays"], rule["Status"]) == (1, "Enabled")


def test_bucket_tells_of_uploads(templates):
    """Every object that is put is an event, without a function that has rights over buckets."""
    templates["storage"].has_resource_properties(
        "AWS::S3::Bucket",
        {"NotificationConfiguration": {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}},
    )
    templates["storage"].resource_count_is("AWS::Lambda::Function", 0)


def test_data_outlives_the_deployment_unless_told_otherwise(documents, private):
    """removal_policy says what becomes of the bucket and the token."""
    for document, policy in ((documents, "Retain"), (private, "Delete")):
        for kind in ("AWS::S3::Bucket", "AWS::SecretsManager::Secret"):
            (resource,) = _of(document["storage"], kind)
            assert resource["DeletionPolicy"] == resource["UpdateReplacePolicy"] == policy


def test_token_is_made_by_aws(templates):
    """No template holds the token, and it fits into a header."""
    templates["storage"].has_resource_properties(
        "AWS::SecretsManager::Secret",
        {"GenerateSecretString": {"ExcludePunctuation": True, "PasswordLength": 48}},
    )


def test_everything_is_found_by_the_name(documents):
    """The parameters that clients look for are there."""
    found = {
        resource["Properties"]["Name"]
        for document in documents.values()
        for resource in _of(document, "AWS::SSM::Parameter")
    }
    names = ("api-url", "replica", "blobs", "bucket", "token-secret", "code", "events-queue")
    assert found == {f"/noob-cloud/test/{name}" for name in names}


def _of(document, kind):
    return [each for each in document["Resources"].values() if each["Type"] == kind]
