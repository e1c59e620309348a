"""The deployment of noob-cloud on AWS as a CDK app: settings, constructs, what composes them."""
