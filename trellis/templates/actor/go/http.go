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
