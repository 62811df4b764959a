// Counts its visits in a key-value store.
package main

import "fmt"

func handle(request Request) Response {
	visits := increment("default", "visits", 1)
	return Response{
		Header: map[string]string{"content-type": "text/plain; charset=utf-8"},
		Body:   fmt.Appendf(nil, "visit %d to {{name}}\n", visits),
	}
}

func main() {} // never runs: the host calls what wasi.go exports
