//go:build wasip1

// wasi:keyvalue, declared as wasi.go declares wasi:http.

package main

import (
	"structs"
	"unsafe"
)

// opened is a result<bucket, error>. An error is a case, and of the last case also the place and length of a text.
type opened struct {
	_             structs.HostLayout
	failed        uint8
	bucket        uint32 // of an error: its case
	place, length uint32
}

// counted is a result<u64, error>.
type counted struct {
	_      structs.HostLayout
	failed uint8
	number uint64 // of an error: its case in the lower half, in the upper one the place of its text
	length uint32
}

//go:wasmimport wasi:keyvalue/store@0.2.0-draft open
func storeOpen(name *byte, nameLength uint32, done *opened)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft increment
func atomicsIncrement(bucket uint32, key *byte, keyLength uint32, delta uint64, done *counted)

// increment adds delta to the number at key, and returns the sum. A key that is not there counts from 0.
func increment(bucket, key string, delta uint64) uint64 {
	var store opened
	storeOpen(unsafe.StringData(bucket), uint32(len(bucket)), &store)
	if store.failed != 0 {
		panic(refusal(store.bucket, store.place, store.length))
	}
	var sum counted
	atomicsIncrement(store.bucket, unsafe.StringData(key), uint32(len(key)), delta, &sum)
	if sum.failed != 0 {
		panic(refusal(uint32(sum.number), uint32(sum.number>>32), sum.length))
	}
	return sum.number
}

func refusal(which, place, length uint32) string {
	switch uint8(which) {
	case 0:
		return "there is no such store"
	case 1:
		return "access to the store is denied"
	default:
		return string((&result{first: place, second: length}).list())
	}
}
