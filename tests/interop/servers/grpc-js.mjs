// npm @grpc/grpc-js on loopback: an API that asks the issuer about each token, and says UNAUTHENTICATED in five forms.
//
//     node grpc-js.mjs ISSUER
import grpc from '@grpc/grpc-js';
import { control, ready, secrets, version } from './control.mjs';

const [issuer] = process.argv.slice(2);
const requests = [];
const unauthenticated = { code: grpc.status.UNAUTHENTICATED, details: 'no' };

/** Notes the call, and whether its token is active (RFC 7662). */
const accepted = async (path, call) => {
  const authorization = call.metadata.get('authorization')[0] ?? null;
  // Without a deadline it is infinite, which is null in JSON.
  const seconds_left = (call.getDeadline() - Date.now()) / 1000;
  const entry = { method: 'POST', path, authorization, status: null, error: null, challenge: null, seconds_left };
  requests.push(entry);
  const token = authorization?.replace(/^Bearer /, '') ?? '';
  const body = new URLSearchParams({ token, client_id: 'introspector', client_secret: secrets.plain });
  const { active } = await (await fetch(`${issuer}/token/introspection`, { method: 'POST', body })).json();
  entry.status = active === true ? 0 : unauthenticated.code;
  return active === true;
};

const forms = {
  TrailersOnly: (call) => call.emit('error', unauthenticated),
  HeadThenTrailers: (call) => {
    call.sendMetadata(new grpc.Metadata());
    call.emit('error', unauthenticated);
  },
  EmptyMessage: (call) => {
    call.write(Buffer.alloc(0));
    call.emit('error', unauthenticated);
  },
  Message: (call) => {
    call.write(Buffer.from('a part'));
    call.emit('error', unauthenticated);
  },
  MidStream: (call) => {
    for (const part of ['1', '2', '3']) call.write(Buffer.from(part));
    setImmediate(() => call.emit('error', unauthenticated));
  },
};

// grpc-js sends a message before an error on a stream of responses only, so every method is one.
const same = (bytes) => bytes;
const method = (name) => ({
  path: `/interop.Calls/${name}`,
  requestStream: false,
  responseStream: true,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
});
const names = Object.keys(forms);
const handler = (name) => async (call) => {
  if (!await accepted(`/interop.Calls/${name}`, call)) return forms[name](call);
  const parts = name === 'MidStream' ? ['1', '2', '3', '4'] : ['whole'];
  for (const part of parts) call.write(Buffer.from(part));
  return call.end();
};

const server = new grpc.Server();
server.addService(
  Object.fromEntries(names.map((name) => [name, method(name)])),
  Object.fromEntries(names.map((name) => [name, handler(name)])),
);
const port = await new Promise((resolve, reject) => {
  const credentials = grpc.ServerCredentials.createInsecure();
  server.bindAsync('127.0.0.1:0', credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
});
ready({
  server: 'grpc-js',
  version: version('@grpc/grpc-js'),
  url: `http://127.0.0.1:${port}`,
  control: await control({ '/requests': () => requests }),
});
