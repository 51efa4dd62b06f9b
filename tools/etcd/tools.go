//go:build tools

// Package tools holds the requirements of the programs that the tests build;
// nothing in it is compiled.
package tools

import (
	_ "go.etcd.io/etcd/server/v3"
)
