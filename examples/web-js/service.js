// A service in JavaScript: fetch events of a component of wasi:http.
import { getEnvironment } from 'wasi:cli/environment@0.2.10';

const TEXT = { 'content-type': 'text/plain; charset=utf-8' };

async function answer(request) {
  const { pathname } = new URL(request.url);
  switch (pathname) {
    case '/': {
      const environment = Object.fromEntries(getEnvironment());
      return new Response(`Hello from JavaScript in ${environment.HOSTNAME ?? 'a pod'}\n`, { headers: TEXT });
    }
    case '/healthz':
      return new Response('ok\n', { headers: TEXT });
    case '/echo':
      return new Response(await request.text(), { headers: TEXT });
    default:
      return new Response('nothing is there\n', { status: 404, headers: TEXT });
  }
}

addEventListener('fetch', (event) => event.respondWith(answer(event.request)));
