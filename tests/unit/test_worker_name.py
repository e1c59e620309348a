"""What a worker is called where nobody names it."""

from noob_cloud.runner.worker_server import arguments, name_of

METADATA = "ECS_CONTAINER_METADATA_URI_V4"


def test_containers_are_told_apart_on_one_host() -> None:
    """Two containers with the same host and port have two names, which say their pools."""
    words = ["--port", "8000", "--tags"]
    cpu = arguments().parse_args([*words, "noob:pool-fargate"])
    gpu = arguments().parse_args([*words, "noob:pool-gpu"])

    one = name_of(cpu, {METADATA: "http://169.254.170.2/v4/0123456789abcdef-2531612879"})
    other = name_of(gpu, {METADATA: "http://169.254.170.2/v4/fedcba9876543210-2531612879"})

    assert (one, other) == ("fargate-0123456789ab", "gpu-fedcba987654")


def test_elsewhere_a_worker_is_named_after_its_host_and_port() -> None:
    """Without ECS, host and port tell workers apart."""
    assert name_of(arguments().parse_args(["--port", "8471"]), {}).endswith("-8471")
