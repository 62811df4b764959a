// Answers HTTP.
package main

func handle(request Request) Response {
	return Response{
		Header: map[string]string{"content-type": "text/plain; charset=utf-8"},
		Body:   []byte("hello from {{name}}\n"),
	}
}

func main() {} // never runs: the host calls what wasi.go exports
