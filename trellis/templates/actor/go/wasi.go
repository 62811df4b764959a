//go:build wasip1

// Between handle and wasi:http. The functions it imports are declared as the canonical ABI has them: a string is a
// pointer and a length of 32 bits each, and a result of more than one value goes to memory that the caller gives.
// For larger programs, componentize-go writes such declarations from the WIT, as wit-bindgen does.

package main

import (
	"slices"
	"structs"
	"unsafe"
)

// result is what the functions below give: a case, and up to two words; of a string or a list, its place and length.
type result struct {
	_             structs.HostLayout
	tag           uint8
	first, second uint32
}

//go:wasmimport wasi:http/types@0.2.0 [method]incoming-request.method
func requestMethod(request uint32, method *result)

//go:wasmimport wasi:http/types@0.2.0 [method]incoming-request.path-with-query
func requestPath(request uint32, path *result)

//go:wasmimport wasi:http/types@0.2.0 [method]incoming-request.consume
func requestConsume(request uint32, body *result)

//go:wasmimport wasi:http/types@0.2.0 [method]incoming-body.stream
func bodyStream(body uint32, stream *result)

//go:wasmimport wasi:io/streams@0.2.0 [method]input-stream.blocking-read
func streamRead(stream uint32, most uint64, data *result)

//go:wasmimport wasi:http/types@0.2.0 [constructor]fields
func fieldsNew() uint32

//go:wasmimport wasi:http/types@0.2.0 [method]fields.append
func fieldsAppend(fields uint32, name *byte, nameLength uint32, value *byte, valueLength uint32, done *result)

//go:wasmimport wasi:http/types@0.2.0 [constructor]outgoing-response
func responseNew(headers uint32) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]outgoing-response.set-status-code
func responseSetStatus(response, status uint32) (failed uint32)

//go:wasmimport wasi:http/types@0.2.0 [method]outgoing-response.body
func responseBody(response uint32, body *result)

// From its second argument on, a result<outgoing-response, error-code>, laid flat.
//
//go:wasmimport wasi:http/types@0.2.0 [static]response-outparam.set
func outparamSet(outparam, failed, response, _ uint32, _ uint64, _, _, _, _ uint32)

//go:wasmimport wasi:http/types@0.2.0 [method]outgoing-body.write
func bodyWrite(body uint32, stream *result)

//go:wasmimport wasi:io/streams@0.2.0 [method]output-stream.blocking-write-and-flush
func streamWrite(stream uint32, data *byte, length uint32, done *result)

//go:wasmimport wasi:io/streams@0.2.0 [resource-drop]output-stream
func streamDrop(stream uint32)

// An error-code takes up to 40 bytes, aligned to 8.
//
//go:wasmimport wasi:http/types@0.2.0 [static]outgoing-body.finish
func bodyFinish(body, hasTrailers, trailers uint32, done *[5]uint64)

//go:wasmexport wasi:http/incoming-handler@0.2.0#handle
func incoming(request, outparam uint32) {
	answer(outparam, handle(read(request)))
}

var methods = [...]string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

// read takes in the request. Its handles end with the actor, which lives for one call.
func read(request uint32) (taken Request) {
	var got result
	requestMethod(request, &got)
	if int(got.tag) < len(methods) {
		taken.Method = methods[got.tag]
	} else {
		taken.Method = string(got.list())
	}
	if requestPath(request, &got); got.tag != 0 { // an option: 1 is some
		taken.Path = string(got.list())
	}
	requestConsume(request, &got)
	bodyStream(got.first, &got)
	for stream := got.first; ; {
		streamRead(stream, 1<<16, &got)
		if got.tag != 0 {
			break
		}
		taken.Body = append(taken.Body, got.list()...)
	}
	if closed := uint8(got.first) == 1; !closed {
		panic("the request's body broke off")
	}
	return taken
}

func answer(outparam uint32, given Response) {
	var done, body, stream result
	headers := fieldsNew()
	for name, value := range given.Header {
		fieldsAppend(headers, unsafe.StringData(name), uint32(len(name)), unsafe.StringData(value), uint32(len(value)), &done)
		if done.tag != 0 {
			panic("no header can be " + name + ": " + value)
		}
	}
	response := responseNew(headers)
	if given.Status != 0 && responseSetStatus(response, uint32(given.Status)) != 0 {
		panic("no such status")
	}
	responseBody(response, &body)
	outparamSet(outparam, 0, response, 0, 0, 0, 0, 0, 0)
	bodyWrite(body.first, &stream)
	for part := range slices.Chunk(given.Body, 4096) { // what one call takes at most
		if streamWrite(stream.first, unsafe.SliceData(part), uint32(len(part)), &done); done.tag != 0 {
			return // nobody listens any more
		}
	}
	streamDrop(stream.first)
	bodyFinish(body.first, 0, 0, new([5]uint64))
}

// Where the host puts what it returns. It does so while Go is calling it, and first before Go's heap is there: so it is
// no memory of that heap, and what hands it out allocates nothing and calls nothing.
var (
	arena [1 << 21]byte // one string or list at a time, beside 128 KB for WASI itself
	used  uint32
)

//go:wasmexport cabi_realloc
//go:nosplit
func cabiRealloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	start := uint32(uintptr(unsafe.Pointer(&arena)))
	begin := (start+used+align-1)&^(align-1) - start
	used = begin + size
	given := arena[begin:used]
	copy(given, unsafe.Slice((*byte)(old), oldSize))
	return unsafe.Pointer(unsafe.SliceData(given))
}

// list is what the host put into the arena, to be copied before the next call takes its place.
func (r *result) list() []byte {
	begin := r.first - uint32(uintptr(unsafe.Pointer(&arena)))
	used = begin
	return arena[begin:][:r.second]
}
