// What the tests ask of every language, in C: an answer over HTTP, a counter in a key-value store, an interface that
// it both imports and exports, and a failure. The canonical ABI by hand: every import is declared as `jco embed` and
// `jco new` expect it, strings and lists are (pointer, length), and results that are more than one value go to memory.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

typedef struct {
  char *data;
  size_t length;
} text;

// -- wasi:http, wasi:io

#define HTTP "wasi:http/types@0.2.0"
#define STREAMS "wasi:io/streams@0.2.0"

typedef struct {
  uint8_t failed;
  int32_t handle;
} handle_result;

typedef struct {
  uint8_t present;
  text value;
} optional_text;

IMPORT(HTTP, "[constructor]fields") int32_t fields_new(void);
IMPORT(HTTP, "[method]incoming-request.path-with-query") void request_path(int32_t request, optional_text *path);
IMPORT(HTTP, "[resource-drop]incoming-request") void request_drop(int32_t request);
IMPORT(HTTP, "[constructor]outgoing-response") int32_t response_new(int32_t headers);
IMPORT(HTTP, "[method]outgoing-response.body") void response_body(int32_t response, handle_result *body);
// The second argument of `set` is a result<outgoing-response, error-code>, laid flat.
IMPORT(HTTP, "[static]response-outparam.set")
void outparam_set(int32_t outparam, int32_t failed, int32_t response, int32_t, int64_t, int32_t, int32_t, int32_t,
                  int32_t);
IMPORT(HTTP, "[method]outgoing-body.write") void body_write(int32_t body, handle_result *stream);
IMPORT(HTTP, "[static]outgoing-body.finish")
void body_finish(int32_t body, int32_t has_trailers, int32_t trailers, void *result);
IMPORT(STREAMS, "[method]output-stream.blocking-write-and-flush")
void stream_write(int32_t stream, const char *data, size_t length, void *result);
IMPORT(STREAMS, "[resource-drop]output-stream") void stream_drop(int32_t stream);

// -- wasi:keyvalue

#define STORE "wasi:keyvalue/store@0.2.0-draft"

typedef struct {
  uint8_t failed;
  union {
    int32_t bucket;
    uint8_t error;
  };
  text message;
} open_result;

typedef struct {
  uint8_t failed;
  union {
    uint64_t count;
    uint8_t error;
  };
  text message;
} count_result;

IMPORT(STORE, "open") void store_open(const char *name, size_t length, open_result *result);
IMPORT(STORE, "[resource-drop]bucket") void bucket_drop(int32_t bucket);
IMPORT("wasi:keyvalue/atomics@0.2.0-draft", "increment")
void increment(int32_t bucket, const char *key, size_t length, uint64_t by, count_result *result);

// -- demo:text

IMPORT("demo:text/transform", "shout") void far_shout(const char *data, size_t length, text *result);

// -- what a component needs

/// Where the host puts what it passes in. The guest lives for one call, so nothing is given back.
EXPORT("cabi_realloc") void *cabi_realloc(void *old, size_t, size_t, size_t size) {
  void *at = realloc(old, size);
  if (at == NULL && size > 0) abort();
  return at;
}

static void fail(const char *why) {
  fprintf(stderr, "guest.c: %s\n", why);
  abort();
}

// -- the guest

static const char *count_visits(void) {
  static char page[21];
  open_result opened;
  count_result counted;
  store_open("default", 7, &opened);
  if (opened.failed) fail("the store does not open");
  increment(opened.bucket, "visits", 6, 1, &counted);
  if (counted.failed) fail("the store does not count");
  bucket_drop(opened.bucket);
  snprintf(page, sizeof page, "%llu", (unsigned long long)counted.count);
  return page;
}

static const char *page_at(optional_text path) {
  text at = path.present ? path.value : (text){"/", 1};
  if (at.length == 6 && memcmp(at.data, "/count", 6) == 0) return count_visits();
  if (at.length == 5 && memcmp(at.data, "/fail", 5) == 0) fail("the guest fails on purpose");
  return "Hello from C!";
}

EXPORT("wasi:http/incoming-handler@0.2.0#handle") void handle(int32_t request, int32_t outparam) {
  optional_text path;
  handle_result body, stream;
  char ignored[64];
  request_path(request, &path);
  request_drop(request);
  const char *page = page_at(path);

  int32_t response = response_new(fields_new());
  response_body(response, &body);
  outparam_set(outparam, 0, response, 0, 0, 0, 0, 0, 0);
  body_write(body.handle, &stream);
  stream_write(stream.handle, page, strlen(page), ignored);
  stream_drop(stream.handle);
  body_finish(body.handle, 0, 0, ignored);
}

EXPORT("demo:text/transform#shout") text *shout(char *data, size_t length) {
  static const char signature[] = ", says C";
  static text answer;
  text heard;
  far_shout(data, length, &heard);
  answer.length = heard.length + sizeof signature - 1;
  answer.data = cabi_realloc(heard.data, heard.length, 1, answer.length);
  memcpy(answer.data + heard.length, signature, sizeof signature - 1);
  return &answer;
}
