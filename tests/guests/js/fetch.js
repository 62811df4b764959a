// What most JavaScript for the web is written against: a listener for `fetch` events, and `fetch` itself.

addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  if (new URL(request.url).pathname === '/echo') return new Response(request.body, { status: 201 });
  const upstream = await fetch('http://upstream.example/things', { method: 'POST', body: await request.text() });
  return new Response(`${upstream.status} ${await upstream.text()}`);
}
