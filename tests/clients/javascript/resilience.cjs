// What Ditto's JavaScript client makes of a lost connection, of too many frames and of refusals, against the server in
// SKERRY_TEST_ADDRESS, which takes few frames in a second.
const ditto = require('@eclipse-ditto/ditto-javascript-client-node');
const net = require('net');

const { Thing } = ditto;
const address = process.env.SKERRY_TEST_ADDRESS;
const [host, port] = address.split(':');
const login = ditto.NodeWebSocketBasicAuth.newInstance('ditto', 'ditto');
const open = (at) => ditto.DittoNodeClient.newWebSocketClient().withoutTls().withDomain(at).withAuthProvider(login).withBuffer(500);
const ID = 'js:R1';
const AT_ONCE = 60;
const PATIENCE = 60000;

const same = (found, wanted) => {
  if (JSON.stringify(found) !== JSON.stringify(wanted)) {
    throw new Error(`${JSON.stringify(found)} instead of ${JSON.stringify(wanted)}`);
  }
};
const soon = (promise) => Promise.race([promise, new Promise((_, fail) => {
  setTimeout(() => fail(new Error('nothing came')), PATIENCE).unref();
})]);
const refusal = (promise) => promise.then(() => null, (error) => [error.status, (error.body || error).error]);

// A way to the server that can be cut.
const ends = new Set();
const way = net.createServer((near) => {
  const far = net.connect(Number(port), host);
  [[near, far], [far, near]].forEach(([from, to]) => {
    ends.add(from);
    from.pipe(to);
    from.on('error', () => to.destroy());
    from.on('close', () => { ends.delete(from); to.destroy(); });
  });
});

(async () => {
  await new Promise((listening) => { way.listen(0, '127.0.0.1', listening); });
  const near = open(address).twinChannel().build();
  const far = open(`127.0.0.1:${way.address().port}`).twinChannel().build();
  const things = near.getThingsHandle();
  const others = far.getThingsHandle();
  const events = far.getEventsHandle();

  const STEPS = {
    'create a thing': async () => same((await things.putThing(Thing.fromObject({ thingId: ID, attributes: { a: 1 } }))).status, 201),
    'say why not': async () => {
      same(await refusal(things.getThing('js:none')), [404, 'things:thing.notfound']);
      same(await refusal(things.deleteAttribute(ID, 'none')), [404, 'things:attribute.notfound']);
      same(await refusal(things.putPolicyId(ID, 'bad')), [400, 'policies:id.invalid']);
    },
    'send what was refused as too much again': async () => {
      const asked = Array.from({ length: AT_ONCE }, (_, n) => things.putAttribute(ID, 'a', n));
      same((await Promise.all(asked)).map((answer) => answer.status), Array(AT_ONCE).fill(204));
    },
    'ask for events': () => events.requestEvents(),
    'give up what was under way when the connection is lost': async () => {
      await others.getThing(ID);
      const asked = refusal(others.getThing(ID));
      ends.forEach((end) => end.destroy());
      same(await asked, [1, 'connection.interrupted']);
    },
    'come back': async () => same((await others.getThing(ID)).thingId, ID),
  };

  let failed = 0;
  for (const [name, step] of Object.entries(STEPS)) {
    try {
      await soon(step());
    } catch (error) {
      failed += 1;
      console.log(`${name}: ${error.message || JSON.stringify(error)}`);
    }
  }
  console.log(`${Object.keys(STEPS).length - failed} of ${Object.keys(STEPS).length} steps`);
  process.exit(failed ? 1 : 0);
})();
