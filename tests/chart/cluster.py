"""A cluster without nodes: etcd, the API server and the controllers of Kubernetes, built by Go from its module proxy.

Objects are validated and admitted, and controllers create pods. No pod runs, because nothing assigns it to a node.
"""

import json
import re
import ssl
import subprocess
import urllib.error
import urllib.request

import yaml
from kubernetes import OPERATOR, RESOURCES
from stack import Failed, free_port, until
from tools import go_main, go_module

KUBERNETES = "1.37.2"
ETCD = "v3.7.0"
# One program for all three, because they have most packages in common.
MAIN = """
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

func main() {
	os.Args = os.Args[1:]
	switch os.Args[0] {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "kube-controller-manager":
		os.Exit(cli.Run(controllers.NewControllerManagerCommand()))
	}
}
"""
TOKEN = "not-a-secret"
# Those that create and remove what a chart leads to.
CONTROLLERS = ["deployment", "replicaset", "serviceaccount", "garbage-collector", "namespace", "disruption", "persistentvolumeclaim-protection"]


def program():
    """The program, built at most once; none if it cannot be built."""
    source = go_module("k8s.io/kubernetes", f"v{KUBERNETES}")
    if source is None:
        return None
    # The modules that are developed in the repository of Kubernetes, and published with a version of their own.
    published = f"v0.{KUBERNETES.partition('.')[2]}"
    staged = re.findall(r"^\t(\S+) => \./staging/", (source / "go.mod").read_text(), re.M)
    module = ["module kubernetes", "go 1.26.0", f"require k8s.io/kubernetes v{KUBERNETES}", f"require go.etcd.io/etcd/server/v3 {ETCD}"]
    module += [f"replace {name} => {name} {published}" for name in staged]
    version, minor = "k8s.io/component-base/version", KUBERNETES.split(".")[1]
    linked = f"-X={version}.gitVersion=v{KUBERNETES} -X={version}.gitMajor=1 -X={version}.gitMinor={minor}"
    return go_main("kubernetes", MAIN, "\n".join(module), f"-ldflags=-s -w {linked}")


class Cluster:
    """Ends with the stack that started it."""

    def __init__(self, stack, binary):
        self.folder = folder = stack.work / "cluster"
        folder.mkdir()
        client, peer, port = free_port(), free_port(), free_port()
        etcd = f"http://127.0.0.1:{client}"
        self.url = f"https://127.0.0.1:{port}"
        (folder / "tokens.csv").write_text(f"{TOKEN},admin,1,system:masters\n")
        subprocess.run(["openssl", "genrsa", "-out", folder / "accounts.key", "2048"], check=True, capture_output=True)
        # Nothing has to survive, so nothing waits for the disk.
        addresses = [f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}", f"--listen-peer-urls=http://127.0.0.1:{peer}"]
        stack.start("etcd", binary, "etcd", f"--data-dir={folder}/etcd", "--unsafe-no-fsync", *addresses)
        stack.start(
            "kube-apiserver",
            binary,
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={folder}/certificates",
            "--authorization-mode=RBAC",
            f"--token-auth-file={folder}/tokens.csv",
            "--service-account-issuer=https://kubernetes.example",
            f"--service-account-key-file={folder}/accounts.key",
            f"--service-account-signing-key-file={folder}/accounts.key",
            "--service-cluster-ip-range=10.0.0.0/24",
        )
        # Signed by itself, so it is its own authority.
        certificate = folder / "certificates/apiserver.crt"
        until("the API server has a certificate", lambda: certificate.exists() and "END CERTIFICATE" in certificate.read_text())
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=certificate))
        )
        until("the API server is ready", lambda: self.call("GET", "/readyz")[0] == 200, 120)
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "test", "cluster": {"server": self.url, "certificate-authority": str(certificate)}}],
                    "users": [{"name": "test", "user": {"token": TOKEN}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                    "current-context": "test",
                }
            )
        )

        controllers = ",".join(f"{name}-controller" for name in CONTROLLERS)
        options = ["--leader-elect=false", "--bind-address=127.0.0.1", f"--secure-port={free_port()}", f"--cert-dir={folder}/controllers"]
        stack.start("kube-controller-manager", binary, "kube-controller-manager", f"--kubeconfig={self.kubeconfig}", f"--controllers={controllers}", *options)

    def install_operator(self):
        """The kinds of the Prometheus Operator that the chart uses; False if they cannot be had."""
        operator = go_module(*OPERATOR)
        if operator is None:
            return False
        for resource in RESOURCES:
            definition = yaml.safe_load((operator / f"example/prometheus-operator-crd/monitoring.coreos.com_{resource}.yaml").read_text())
            self.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
            until(f"{resource} are served", lambda: self.call("GET", f"/apis/monitoring.coreos.com/v1/{resource}")[0] == 200)
        return True

    def create(self, path, body):
        status, answer = self.call("POST", path, body)
        if status != 201:
            raise Failed(f"{path}: {answer}")
        return answer

    def call(self, method, path, body=None):
        """The status and the answer."""
        status, text = self.request(method, path, body)
        return status, json.loads(text) if text.startswith("{") else text

    def events(self, path, version):
        """What has happened to the objects of a list since that version of it."""
        status, text = self.request("GET", f"{path}?watch=1&resourceVersion={version}&timeoutSeconds=1")
        # Old versions are forgotten after some minutes.
        if status != 200 or '"type":"ERROR"' in text:
            raise Failed(f"{path}: {text}")
        return [json.loads(line) for line in text.splitlines()]

    def request(self, method, path, body=None):
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode() if body else None, headers, method=method)
        try:
            with self.opener.open(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
