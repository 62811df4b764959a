// Answers HTTP.
package main

type Request struct {
	Method string
	Path   string // with the query
	Body   []byte
}

type Response struct {
	Status int // 200 where it is left out
	Header map[string]string
	Body   []byte
}

func handle(request Request) Response {
	return Response{
		Header: map[string]string{"content-type": "text/plain; charset=utf-8"},
		Body:   []byte("hello from {{name}}\n"),
	}
}

func main() {} // never runs: the host calls what wasi.go exports
