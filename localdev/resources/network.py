"""API Gateway's HTTP APIs, Cloud Map, routes, and what security groups let out."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from localdev.aws import call, client
from localdev.cloudformation import Resource


class _OfApi(Resource):
    """A part of an HTTP API: nothing here forwards requests, all can be read back."""

    operation: ClassVar[str]
    key: ClassVar[str]
    own: ClassVar[bool] = True
    """Whether it belongs to an API, which has an id of its own."""

    def create(self) -> None:
        made = call("apigatewayv2", f"create_{self.operation}", self._given())
        self.id = made[self.key]
        self.attributes = {self.key: self.id, "Id": self.id, "ApiEndpoint": made.get("ApiEndpoint")}

    def update(self) -> None:
        with suppress(ClientError):
            call("apigatewayv2", f"update_{self.operation}", {**self._given(), self.key: self.id})

    def remove(self) -> None:
        given = {self.key: self.id}
        if self.own:
            given["ApiId"] = self.properties["ApiId"]
        with suppress(ClientError):
            call("apigatewayv2", f"delete_{self.operation}", given)

    def _given(self) -> dict[str, Any]:
        return {key: value for key, value in self.properties.items() if key != "Tags"}


class HttpApi(_OfApi):
    """An HTTP API."""

    type = "AWS::ApiGatewayV2::Api"
    operation, key, own = "api", "ApiId", False


class Route(_OfApi):
    """A route of one."""

    type = "AWS::ApiGatewayV2::Route"
    operation, key = "route", "RouteId"


class Integration(_OfApi):
    """Where a route leads."""

    type = "AWS::ApiGatewayV2::Integration"
    operation, key = "integration", "IntegrationId"


class Authorizer(_OfApi):
    """Who is let in."""

    type = "AWS::ApiGatewayV2::Authorizer"
    operation, key = "authorizer", "AuthorizerId"


class Stage(_OfApi):
    """A stage of one."""

    type = "AWS::ApiGatewayV2::Stage"
    operation, key = "stage", "StageName"


class VpcLink(_OfApi):
    """A way from an HTTP API into a network."""

    type = "AWS::ApiGatewayV2::VpcLink"
    operation, key, own = "vpc_link", "VpcLinkId", False


class Namespace(Resource):
    """Names within a network."""

    type = "AWS::ServiceDiscovery::PrivateDnsNamespace"

    def create(self) -> None:
        call("servicediscovery", "create_private_dns_namespace", self.properties)
        found = client("servicediscovery").list_namespaces()["Namespaces"]
        made = next(each for each in found if each["Name"] == self.properties["Name"])
        self.id = made["Id"]
        self.attributes = {"Id": made["Id"], "Arn": made["Arn"], "HostedZoneId": "Z0LOCAL"}

    def remove(self) -> None:
        with suppress(ClientError):
            client("servicediscovery").delete_namespace(Id=self.id)


class DiscoveryService(Resource):
    """A service that has a name in a network."""

    type = "AWS::ServiceDiscovery::Service"

    def create(self) -> None:
        given = {"Name": self.name, **self.properties}
        made = call("servicediscovery", "create_service", given)["Service"]
        self.id = made["Id"]
        self.attributes = {"Id": made["Id"], "Arn": made["Arn"], "Name": made["Name"]}

    def update(self) -> None:
        """Keep it: nothing here looks names up."""

    def remove(self) -> None:
        with suppress(ClientError):
            client("servicediscovery").delete_service(Id=self.id)


class RouteTable(Resource):
    """A table of routes; moto's own type is never deleted, and its network then cannot be."""

    type = "AWS::EC2::RouteTable"

    def create(self) -> None:
        made = call("ec2", "create_route_table", {"VpcId": self.properties["VpcId"]})
        self.id = made["RouteTable"]["RouteTableId"]
        self.attributes = {"RouteTableId": self.id}

    def update(self) -> None:
        """Keep it: it belongs to its network for ever."""

    def remove(self) -> None:
        ec2 = client("ec2")
        with suppress(ClientError):
            for table in ec2.describe_route_tables(RouteTableIds=[self.id])["RouteTables"]:
                for each in table["Associations"]:
                    with suppress(ClientError):
                        ec2.disassociate_route_table(AssociationId=each["RouteTableAssociationId"])
            ec2.delete_route_table(RouteTableId=self.id)


class Egress(Resource):
    """What a security group lets out."""

    type = "AWS::EC2::SecurityGroupEgress"

    def create(self) -> None:
        self._ask("authorize_security_group_egress")

    def update(self) -> None:
        """Let the new one out as well."""
        self.create()

    def remove(self) -> None:
        self._ask("revoke_security_group_egress")

    def _ask(self, operation: str) -> None:
        given = self.properties
        allowed: dict[str, Any] = {"IpProtocol": str(given["IpProtocol"])}
        for name in ("FromPort", "ToPort"):
            if name in given:
                allowed[name] = int(given[name])
        if "CidrIp" in given:
            allowed["IpRanges"] = [{"CidrIp": given["CidrIp"]}]
        if "DestinationSecurityGroupId" in given:
            allowed["UserIdGroupPairs"] = [{"GroupId": given["DestinationSecurityGroupId"]}]
        with suppress(ClientError):  # it is let out already, or no longer
            call("ec2", operation, {"GroupId": given["GroupId"], "IpPermissions": [allowed]})
