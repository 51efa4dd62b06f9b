//go:build tools

// Package tools holds the requirements of the programs that the tests build;
// nothing in it is compiled.
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
