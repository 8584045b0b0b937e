// A resource server with npm express-oauth2-jwt-bearer in front of it, and one route that asks the issuer (RFC 7662).
//
//     node api.mjs ISSUER
import { createServer } from 'node:http';
import express from 'express';
import { auth, requiredScopes } from 'express-oauth2-jwt-bearer';
import { control, listen, ready, record, secrets, version } from './control.mjs';

const [issuer] = process.argv.slice(2);
const app = express();
const server = createServer();
const requests = record(server);
const applied = [];

const jwt = auth({ issuerBaseURL: issuer, audience: 'urn:interop:api', tokenSigningAlg: 'ES256', clockTolerance: 0 });
app.get('/jwt', jwt, (request, response) => { response.json({ client: request.auth.payload.client_id }); });
app.get('/jwt/scoped', jwt, requiredScopes('admin'), (_request, response) => { response.json({}); });
app.post('/jwt/transfers', jwt, express.text(), (request, response) => {
  applied.push(request.body);
  response.status(201).json({});
});

app.get('/opaque', async (request, response) => {
  const token = /^Bearer (\S+)$/.exec(request.headers.authorization ?? '')?.[1];
  const refuse = (challenge) => response.set('WWW-Authenticate', challenge).sendStatus(401);
  if (!token) return refuse('Bearer realm="interop"');
  const body = new URLSearchParams({ token, client_id: 'introspector', client_secret: secrets.plain });
  const introspection = await (await fetch(`${issuer}/token/introspection`, { method: 'POST', body })).json();
  if (introspection.active !== true) return refuse('Bearer realm="interop", error="invalid_token"');
  return response.json({ client: introspection.client_id });
});
// Express would print what it refuses.
app.use((error, _request, response, _next) => { response.set(error.headers).sendStatus(error.status ?? 500); });

server.on('request', app);
const url = `http://127.0.0.1:${await listen(server)}`;
ready({
  server: issuer.startsWith('https:') ? 'express-oauth2-jwt-bearer over TLS' : 'express-oauth2-jwt-bearer',
  version: version('express-oauth2-jwt-bearer'),
  url,
  control: await control({ '/requests': () => requests, '/applied': () => applied }),
});
