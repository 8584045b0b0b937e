// npm oidc-provider on loopback. With the paths of a certificate and its key it speaks TLS.
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { readFileSync } from 'node:fs';
import { exportJWK, exportPKCS8, generateKeyPair } from 'jose';
import { Provider } from 'oidc-provider';
import { control, listen, ready, record, secrets, version } from './control.mjs';

const [certificate, key] = process.argv.slice(2);
const tls = certificate !== undefined;
const server = tls
  ? createTlsServer({ cert: readFileSync(certificate), key: readFileSync(key), requestCert: true, rejectUnauthorized: false })
  : createServer();
const counts = { handshakes_failed: 0 };
server.on('tlsClientError', () => { counts.handshakes_failed += 1; });
const requests = record(server);
const port = await listen(server);
const issuer = `${tls ? 'https' : 'http'}://${tls ? 'localhost' : '127.0.0.1'}:${port}`;

const pair = async (alg) => {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  return { public: { ...await exportJWK(publicKey), alg, kid: alg, use: 'sig' }, private: privateKey };
};
const own = await pair('ES256');
const ownRs = await pair('RS256');
const keys = { ES256: await pair('ES256'), RS256: await pair('RS256'), PS256: await pair('PS256'), EdDSA: await pair('EdDSA'), stranger: await pair('ES256') };

const client = (client_id, settings = {}) => ({
  client_id,
  client_secret: secrets.plain,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
  id_token_signed_response_alg: 'ES256',
  token_endpoint_auth_method: 'client_secret_post',
  ...settings,
});
const assertion = (client_id, alg) => client(client_id, {
  client_secret: undefined,
  token_endpoint_auth_method: 'private_key_jwt',
  token_endpoint_auth_signing_alg: alg,
  jwks: { keys: [keys[alg].public] },
});
const clients = [
  client('orders'),
  client('orders-jwt'),
  client('elsewhere-jwt'),
  client('short'),
  client('short-jwt'),
  client('renewed'),
  client('renewed-jwt'),
  client('scoped', { scope: 'read' }),
  client('introspector'),
  client('broken'),
  client('dpop', { dpop_bound_access_tokens: true }),
  client('web', { grant_types: ['authorization_code'], response_types: ['code'], redirect_uris: ['https://client.example/cb'] }),
  client('outdated', { client_secret_expires_at: 1 }),
  client('mtls', { client_secret: undefined, token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_san_dns: 'client.example' }),
  assertion('assert-ES256', 'ES256'),
  assertion('assert-RS256', 'RS256'),
  assertion('assert-PS256', 'PS256'),
  assertion('assert-EdDSA', 'EdDSA'),
  ...Object.entries(secrets).map(([name, client_secret]) => client(`secret-${name}`, { client_secret })),
];
// It counts in whole seconds: what it hands out for four lives between three and four.
const shortLived = { short: 4, 'short-jwt': 4, renewed: 6, 'renewed-jwt': 6 };
const defaultResource = {
  'orders-jwt': 'urn:interop:api',
  'short-jwt': 'urn:interop:api',
  'renewed-jwt': 'urn:interop:api',
  'elsewhere-jwt': 'urn:interop:elsewhere',
  broken: 'urn:interop:broken',
};
const known = new Set(['urn:interop:api', 'urn:interop:elsewhere']);

const provider = new Provider(issuer, {
  clients,
  jwks: { keys: await Promise.all([own, ownRs].map(async (k) => ({ ...await exportJWK(k.private), alg: k.public.alg, kid: k.public.kid, use: 'sig' }))) },
  clientAuthMethods: [
    'client_secret_basic', 'client_secret_post', 'private_key_jwt', 'none', ...tls ? ['tls_client_auth'] : [],
  ],
  enabledJWA: { clientAuthSigningAlgValues: ['ES256', 'RS256', 'PS256', 'EdDSA'] },
  scopes: ['openid', 'offline_access', 'read', 'write'],
  cookies: { keys: ['interop'] },
  ttl: { ClientCredentials: (_ctx, token) => shortLived[token.clientId] ?? 600 },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    dPoP: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true, allowedPolicy: () => true },
    mTLS: {
      enabled: tls,
      tlsClientAuth: true,
      getCertificate: (ctx) => ctx.socket.getPeerX509Certificate?.(),
      // The test's own client certificate signs itself: its name decides here.
      certificateAuthorized: () => true,
      certificateSubjectMatches: (ctx, property, expected) => {
        const names = ctx.socket.getPeerX509Certificate()?.subjectAltName ?? '';
        return property === 'tls_client_auth_san_dns' && names.split(', ').includes(`DNS:${expected}`);
      },
    },
    resourceIndicators: {
      enabled: true,
      defaultResource: (_ctx, { clientId }) => defaultResource[clientId],
      useGrantedResource: () => true,
      getResourceServerInfo: (_ctx, resource) => {
        if (resource === 'urn:interop:broken') throw new Error('the database is away');
        if (!known.has(resource)) throw new (class extends Error {
          error = 'invalid_target'; error_description = 'unknown resource'; status = 400; statusCode = 400; expose = true;
        })('invalid_target');
        return { scope: 'read transfer', audience: resource, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } };
      },
    },
  },
});
// Its own count, beside that of its port.
const events = [];
provider.on('grant.success', (ctx) => events.push({ event: 'success', client: ctx.oidc.client?.clientId ?? null }));
provider.on('grant.error', (ctx, { error, error_detail }) => {
  events.push({ event: 'error', client: ctx.oidc.client?.clientId ?? null, error, detail: error_detail ?? null });
});
provider.on('server_error', (_ctx, error) => events.push({ event: 'server_error', client: null, error: error.name, detail: error.message }));
server.on('request', provider.callback());

const url = await control({
  '/requests': () => requests,
  '/events': () => events,
  '/counts': () => counts,
  '/keys': async () => Object.fromEntries(await Promise.all(Object.entries(keys).map(async ([name, k]) => [name, { pem: await exportPKCS8(k.private), jwk: k.public }]))),
});
ready({ server: tls ? 'oidc-provider over TLS' : 'oidc-provider', version: version('oidc-provider'), url: issuer, control: url });
