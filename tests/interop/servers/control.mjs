// What the servers written for Node have in common: a free port, the line that says "ready", and what they counted.
import { createServer } from 'node:http';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));

export const secrets = Object.fromEntries(JSON.parse(readFileSync(join(here, 'clients.json'), 'utf8')).secrets);

/** The version of an installed package, as its own package.json says it. */
export function version(name) {
  const paths = createRequire(import.meta.url).resolve.paths(name);
  for (const path of paths) {
    try {
      return JSON.parse(readFileSync(join(path, name, 'package.json'), 'utf8')).version;
    } catch {
      // The next folder up may have it.
    }
  }
  throw new Error(`${name} is not installed`);
}

/** Binds a free port on loopback. Returns the port. */
export async function listen(server) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server.address().port;
}

/** Answers each path with the JSON that its function returns; of a list, with what comes after the first `?since=N`. */
export async function control(paths) {
  const server = createServer(async (request, response) => {
    const [path, since] = request.url.split('?since=');
    const found = await paths[path]?.();
    response.writeHead(found ? 200 : 404, { 'content-type': 'application/json' });
    response.end(JSON.stringify(Array.isArray(found) ? found.slice(since ?? 0) : found ?? null));
  });
  return `http://127.0.0.1:${await listen(server)}`;
}

/** Notes every request of `server` with what it was answered. */
export function record(server) {
  const requests = [];
  server.on('request', (request, response) => {
    const { method, headers } = request;
    const entry = {
      method,
      path: request.url.split('?')[0],
      authorization: headers.authorization ?? null,
      status: null,
      error: null,
      challenge: null,
    };
    requests.push(entry);
    // Before the answer's last byte leaves: who has read it finds its status noted.
    const end = response.end;
    response.end = function noted(...args) {
      entry.status = response.statusCode;
      entry.error = error(args[0]);
      entry.challenge = response.getHeader('www-authenticate') ?? null;
      return end.apply(this, args);
    };
  });
  return requests;
}

/** The error code in a JSON answer. */
function error(body) {
  try {
    return JSON.parse(body.toString()).error ?? null;
  } catch {
    return null;
  }
}

export function ready(facts) {
  process.stdout.write(`ready ${JSON.stringify(facts)}\n`);
}
