"""The deployed stacks on LocalStack: its S3, SQS, EventBridge and Lambda, and our processes.

LocalStack 4.9.2 runs from an environment of its own (`install`), with two plugins of ours
(`plugin`): one runs functions as processes (`executor`), one has it listen where it is told
(`server`). It has no ECS: `agent` reads the services from the deployed templates (`deployed`) and
runs them. `LocalStackCloud` starts all of it, or uses a LocalStack that runs already.
"""
