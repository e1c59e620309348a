"""The deployed stacks on one machine: an emulated cloud, and agents that run what is deployed.

`python -m localdev.cloud` is AWS's API (a moto server that knows more of CloudFormation),
`python -m localdev.agent` runs what was deployed there: Lambda functions under AWS's own runtime
client, ECS services as processes, event sources and schedules. `LocalCloud` starts both.
"""
