// npm @node-oauth/oauth2-server on loopback: a token endpoint, and a route that its authenticate() protects.
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import OAuth2Server from '@node-oauth/oauth2-server';
import { control, listen, ready, record, secrets, version } from './control.mjs';

const client = (secret, grants = ['client_credentials']) => ({ secret, grants });
const clients = {
  orders: client(secrets.plain),
  short: client(secrets.plain),
  web: client(secrets.plain, ['authorization_code']),
  ...Object.fromEntries(Object.entries(secrets).map(([name, secret]) => [`secret-${name}`, client(secret)])),
};
const tokens = new Map();
const events = [];

const oauth = new OAuth2Server({
  model: {
    async getClient(id, secret) {
      const found = clients[id];
      return found?.secret === secret && { id, grants: found.grants, accessTokenLifetime: id === 'short' ? 2 : 600 };
    },
    async getUserFromClient({ id }) { return { id }; },
    async validateScope(_user, _client, scope) { return (scope ?? ['read']).every((one) => one === 'read') && (scope ?? ['read']); },
    async generateAccessToken() { return randomBytes(16).toString('hex'); },
    async saveToken(token, { id }, user) {
      events.push({ event: 'success', client: id });
      const saved = { ...token, client: { id }, user };
      tokens.set(token.accessToken, saved);
      return saved;
    },
    async getAccessToken(token) { return tokens.get(token) ?? null; },
    async verifyScope(token, scope) { return scope.every((one) => token.scope.includes(one)); },
  },
});

/** What the library's own wrappers for express and koa do. */
const respond = async (request, response, work) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const { headers, method } = request;
  const body = Object.fromEntries(new URLSearchParams(Buffer.concat(chunks).toString()));
  const theirs = new OAuth2Server.Response();
  let content;
  try {
    await work(new OAuth2Server.Request({ headers, method, query: {}, body }), theirs);
    content = theirs.body;
  } catch (error) {
    theirs.status = error.code;
    content = theirs.body?.error ? theirs.body : { error: error.name, error_description: error.message };
  }
  response.statusCode = theirs.status;
  for (const [name, value] of Object.entries(theirs.headers)) response.setHeader(name, value);
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(content ?? {}));
};

const server = createServer();
const requests = record(server);
server.on('request', (request, response) => {
  const routes = {
    '/token': (theirs, reply) => oauth.token(theirs, reply),
    '/api': (theirs, reply) => oauth.authenticate(theirs, reply),
    '/admin': (theirs, reply) => oauth.authenticate(theirs, reply, { scope: ['admin'] }),
    '/revoke': async (theirs) => { tokens.delete(theirs.body.token); },
  };
  const route = routes[request.url];
  if (route) return respond(request, response, route);
  response.writeHead(404);
  return response.end();
});

const url = `http://127.0.0.1:${await listen(server)}`;
ready({
  server: '@node-oauth/oauth2-server',
  version: version('@node-oauth/oauth2-server'),
  url,
  control: await control({ '/requests': () => requests, '/events': () => events }),
});
