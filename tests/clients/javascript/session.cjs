// The WebSocket handles of Ditto's JavaScript client, twin and live, against the server in SKERRY_TEST_ADDRESS.
const ditto = require('@eclipse-ditto/ditto-javascript-client-node');
const WebSocket = require('ws');

const { Thing, Feature, Features } = ditto;
const address = process.env.SKERRY_TEST_ADDRESS;
const login = ditto.NodeWebSocketBasicAuth.newInstance('ditto', 'ditto');
const open = () => ditto.DittoNodeClient.newWebSocketClient().withoutTls().withDomain(address).withAuthProvider(login).withBuffer(50);
const ID = 'js:S1';
const PATIENCE = 20000;

const same = (found, wanted) => {
  if (JSON.stringify(found) !== JSON.stringify(wanted)) {
    throw new Error(`${JSON.stringify(found)} instead of ${JSON.stringify(wanted)}`);
  }
};
const gives = (status, ask) => async () => same((await ask()).status, status);
const is = (wanted, ask) => async () => same(await ask(), wanted);
const refuses = (status, ask) => async () => {
  const refused = await ask().then(() => null, (error) => error);
  same(refused && refused.status, status);
};
const soon = (promise) => Promise.race([promise, new Promise((_, fail) => {
  setTimeout(() => fail(new Error('nothing came')), PATIENCE).unref();
})]);
const thing = () => Thing.fromObject({ thingId: ID, attributes: { a: 1 }, features: { f: { properties: { p: 1 } } } });

// A device with a plain WebSocket: answers every message with what it said, every live command with 204 or 7.
const device = () => new Promise((ready) => {
  const socket = new WebSocket(`ws://${address}/ws/2`, { headers: { Authorization: `Basic ${Buffer.from('ditto:ditto').toString('base64')}` } });
  let acknowledged = 0;
  socket.on('open', () => ['MESSAGES', 'LIVE-COMMANDS'].forEach((sort) => socket.send(`START-SEND-${sort}`)));
  socket.on('message', (data) => {
    const text = data.toString();
    if (text.endsWith(':ACK')) {
      acknowledged += 1;
      return acknowledged === 2 && ready(socket);
    }
    const asked = JSON.parse(text);
    const answer = { topic: asked.topic, path: asked.path, headers: { 'correlation-id': asked.headers['correlation-id'] } };
    if (asked.topic.includes('/messages/')) {
      answer.headers['content-type'] = asked.headers['content-type'];
      return socket.send(JSON.stringify({ ...answer, status: 200, value: asked.value }));
    }
    return socket.send(JSON.stringify(asked.topic.endsWith('retrieve') ? { ...answer, status: 200, value: 7 } : { ...answer, status: 204 }));
  });
});

(async () => {
  const twin = open().twinChannel().build();
  const other = open().twinChannel().build();
  const live = open().liveChannel().build();
  const listener = open().liveChannel().build();
  const things = twin.getThingsHandle();
  const features = twin.getFeaturesHandle(ID);
  const events = other.getEventsHandle();
  const asked = live.getThingsHandle();
  const messages = live.getMessagesHandle();
  const heard = listener.getMessagesHandle();
  const commands = listener.getCommandsHandle();
  let bare;

  const STEPS = {
    'create a thing': gives(201, () => things.putThing(thing())),
    'replace a thing': gives(204, () => things.putThing(thing())),
    'retrieve a thing': is(1, async () => (await things.getThing(ID)).attributes.a),
    'retrieve an attribute': is(1, () => things.getAttribute(ID, 'a')),
    'retrieve the policy id': is(ID, () => things.getPolicyId(ID)),
    'miss an attribute': refuses(404, () => things.getAttribute(ID, 'none')),
    'miss a thing': refuses(404, () => things.getThing('js:none')),
    'refuse an old revision': refuses(412, () =>
      things.putAttributes(ID, {}, ditto.DefaultMatchOptions.getInstance().ifMatch('"rev:99"'))),
    'create an attribute': gives(201, () => things.putAttribute(ID, 'x/y', { z: 1 })),
    'merge an attribute': gives(204, () => things.patchAttribute(ID, 'x', { w: 2 })),
    'create a definition': gives(201, () => things.putDefinition(ID, 'a:b:1.0.0')),
    'retrieve a definition': is('a:b:1.0.0', () => things.getDefinition(ID)),
    'delete a definition': () => things.deleteDefinition(ID),
    'create a feature': gives(201, () => features.putFeature(new Feature('g', ['a:b:1'], { p: { q: 1 } }, { p: 2 }))),
    'retrieve a feature': is(1, async () => (await features.getFeature('g')).properties.p.q),
    'replace its properties': gives(204, () => features.putProperties('g', { r: 1 })),
    'create a property': gives(201, () => features.putProperty('g', 'n', 1)),
    'delete a property': () => features.deleteProperty('g', 'n'),
    'replace features': gives(204, () => features.putFeatures(Features.fromObject({ f: { properties: { p: 1 } } }))),
    'ask for events': () => events.requestEvents(),
    'follow all events': async () => {
      const event = new Promise((told) => { events.subscribeToAllEvents(told); });
      await things.putAttribute(ID, 'seen', 5);
      const { action, path, value } = await soon(event);
      same([action, path, value], ['created', '/attributes/seen', 5]);
    },
    'follow one attribute': async () => {
      const event = new Promise((told) => { events.subscribeToAttribute(ID, 'a', told, 'modified'); });
      await things.putAttribute(ID, 'seen', 6);
      await things.putAttribute(ID, 'a', 7);
      same((await soon(event)).value, 7);
    },
    'follow a feature': async () => {
      const event = new Promise((told) => { events.subscribeToFeature(ID, 'f', told); });
      await features.putProperty('f', 'p', 8);
      same((await soon(event)).path, '/features/f/properties/p');
    },
    'end events': () => events.stopEvents(),
    'start a device': async () => { bare = await device(); },
    'send a message to a thing': is('ping', async () => (await messages.messageToThing(ID, 'echo', 'ping', 'text/plain')).body),
    'send JSON to a feature': is({ a: 1 }, async () =>
      (await messages.messageToFeature(ID, 'f', 'echo', { a: 1 }, 'application/json')).body),
    'send a message from a thing': is(200, async () => (await messages.messageFromThing(ID, 'echo', 'up', 'text/plain')).status),
    'ask for messages': () => heard.requestMessages(),
    'hear a message': async () => {
      const message = new Promise((told) => { heard.subscribeToThing(ID, told, 'news', 'inbox'); });
      await messages.messageToThingWithoutResponse(ID, 'news', 'hello', 'text/plain');
      same((await soon(message)).value, 'hello');
    },
    'end messages': () => heard.stopMessages(),
    'ask a device': is(7, () => asked.getAttribute(ID, 'a')),
    'command a device': gives(204, () => asked.putAttribute(ID, 'a', 9)),
    'ask for commands': () => commands.requestCommands(),
    'hear a command': async () => {
      const command = new Promise((told) => { commands.subscribeToAllCommands(told); });
      await asked.putAttribute(ID, 'b', 9);
      same((await soon(command)).path, '/attributes/b');
    },
    'end commands': () => commands.stopCommands(),
    'ask for live events': () => listener.getEventsHandle().requestEvents(),
    'delete the features': () => features.deleteFeatures(),
    'delete a thing': () => things.deleteThing(ID),
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
  [twin, other, live, listener].forEach((client) => client.close(1000, 'done'));
  if (bare) bare.close();
  process.exit(failed ? 1 : 0);
})();
