// Answers HTTP. The functions it imports are declared as the canonical ABI has them: a string is a pointer and a
// length, and a result of more than one value goes to memory that the caller gives. `wit-bindgen c` writes such
// declarations from the WIT, for larger programs.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))
#define HTTP "wasi:http/types@0.2.0"
#define STREAMS "wasi:io/streams@0.2.0"

typedef struct {
  uint8_t failed;
  int32_t handle;
} handle_result;

IMPORT(HTTP, "[constructor]fields") int32_t fields_new(void);
IMPORT(HTTP, "[resource-drop]incoming-request") void request_drop(int32_t request);
IMPORT(HTTP, "[constructor]outgoing-response") int32_t response_new(int32_t headers);
IMPORT(HTTP, "[method]outgoing-response.body") void response_body(int32_t response, handle_result *body);
// From its second argument on, a result<outgoing-response, error-code>, laid flat.
IMPORT(HTTP, "[static]response-outparam.set")
void outparam_set(int32_t outparam, int32_t failed, int32_t response, int32_t, int64_t, int32_t, int32_t, int32_t,
                  int32_t);
IMPORT(HTTP, "[method]outgoing-body.write") void body_write(int32_t body, handle_result *stream);
IMPORT(HTTP, "[static]outgoing-body.finish")
void body_finish(int32_t body, int32_t has_trailers, int32_t trailers, void *result);
IMPORT(STREAMS, "[method]output-stream.blocking-write-and-flush")
void stream_write(int32_t stream, const char *data, size_t length, void *result);
IMPORT(STREAMS, "[resource-drop]output-stream") void stream_drop(int32_t stream);

// Where the host puts what it passes in. The actor lives for one call, so nothing is given back.
EXPORT("cabi_realloc") void *cabi_realloc(void *old, size_t, size_t, size_t size) {
  void *at = realloc(old, size);
  if (at == NULL && size > 0) abort();
  return at;
}

EXPORT("wasi:http/incoming-handler@0.2.0#handle") void handle(int32_t request, int32_t outparam) {
  static const char page[] = "hello from {{name}}\n";
  handle_result body, stream;
  char ignored[64];
  request_drop(request);
  int32_t response = response_new(fields_new());
  response_body(response, &body);
  outparam_set(outparam, 0, response, 0, 0, 0, 0, 0, 0);
  body_write(body.handle, &stream);
  stream_write(stream.handle, page, strlen(page), ignored);
  stream_drop(stream.handle);
  body_finish(body.handle, 0, 0, ignored);
}
