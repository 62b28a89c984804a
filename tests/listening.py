"""What processes listen on, and what that says to who shows no token."""

import ipaddress
from contextlib import suppress

import grpc
import psutil

# A call for each of Ray's servers that would be heard, were it not for the token.
CALLS = [
    "/ray.serve.ASGIService/HandleRequest",
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.CoreWorkerService/PushTask",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.ReporterService/GetTraceback",
    "/ray.rpc.RayletDriver/Init",
]
NO_GRPC = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


def listening_to_others(process: psutil.Process) -> set[tuple[str, int]]:
    """Hosts and ports where a process, or one below it, listens to other machines."""
    places = set()
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # it ended since
            places |= {
                (ipaddress.ip_address(connection.laddr.ip), connection.laddr.port)
                for connection in one.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
            }
    plain = {(getattr(host, "ipv4_mapped", None) or host, port) for host, port in places}
    return {
        ("127.0.0.1" if host.is_unspecified else str(host), port)
        for host, port in plain
        if not host.is_loopback
    }


def codes_without_token(host: str, port: int) -> list[grpc.StatusCode]:
    """What each of CALLS is answered; one of NO_GRPC where no such server listens."""
    codes: list[grpc.StatusCode] = []
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        for call in CALLS:
            try:
                channel.unary_unary(call)(b"", timeout=3)
                codes.append(grpc.StatusCode.OK)
            except grpc.RpcError as error:
                codes.append(error.code())
                if error.code() in NO_GRPC:
                    break
    return codes
