// Every HTTP handle of Ditto's JavaScript client against the server in SKERRY_TEST_ADDRESS; one line per step that fails.
const ditto = require('@eclipse-ditto/ditto-javascript-client-node');

const { Thing, Feature, Features, Policy, Entries, Entry, Subjects, Subject, Resources, Resource } = ditto;
const filter = (text) => ditto.DefaultSearchOptions.getInstance().withFilter(text);
const client = ditto.DittoNodeClient.newHttpClient()
  .withoutTls()
  .withDomain(process.env.SKERRY_TEST_ADDRESS)
  .withAuthProvider(ditto.NodeHttpBasicAuth.newInstance('ditto', 'ditto'))
  .build();
const things = client.getThingsHandle();
const policies = client.getPoliciesHandle();
const search = client.getSearchHandle();
const ID = 'js:T1';
const POLICY = 'js:P1';
const features = client.getFeaturesHandle(ID);

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

const GRANTS = { grant: ['READ', 'WRITE'], revoke: [] };
const OWNER = {
  subjects: { 'nginx:ditto': { type: 'test' } },
  resources: { 'policy:/': GRANTS, 'thing:/': GRANTS },
};
const GUEST = { subjects: { 'nginx:eve': { type: 'test' } }, resources: { 'thing:/': { grant: ['READ'], revoke: [] } } };
const thing = () => Thing.fromObject({ thingId: ID, attributes: { a: 1, b: { c: 2 } }, features: { f: { properties: { p: 1 } } } });
const policy = () => Policy.fromObject({ entries: { owner: OWNER } }, POLICY);

const STEPS = {
  'create a thing': gives(201, () => things.putThing(thing())),
  'replace a thing': gives(204, () => things.putThing(thing())),
  'merge into a thing': gives(204, () => things.patchThing(Thing.fromObject({ thingId: ID, attributes: { q: 1 } }))),
  'retrieve a thing': is(2, async () => (await things.getThing(ID)).attributes.b.c),
  'retrieve fields': is(3, async () =>
    (await things.getThing(ID, ditto.DefaultFieldsOptions.getInstance().withFields('thingId', '_revision')))._revision),
  'retrieve things': is(1, async () => (await things.getThings([ID])).length),
  'make a thing': async () => {
    const made = await things.postThing({ attributes: { a: 1 } });
    await things.deleteThing(made.thingId);
    await policies.deletePolicy(made.policyId);
  },
  'refuse an old revision': refuses(412, () =>
    things.putAttributes(ID, {}, ditto.DefaultMatchOptions.getInstance().ifMatch('"rev:99"'))),
  'retrieve the policy id': is(ID, () => things.getPolicyId(ID)),
  'replace the policy id': gives(204, () => things.putPolicyId(ID, ID)),
  'miss a definition': refuses(404, () => things.getDefinition(ID)),
  'create a definition': gives(201, () => things.putDefinition(ID, 'a:b:1.0.0')),
  'merge a definition': gives(204, () => things.patchDefinition(ID, 'a:b:1.0.1')),
  'retrieve a definition': is('a:b:1.0.1', () => things.getDefinition(ID)),
  'delete a definition': () => things.deleteDefinition(ID),
  'retrieve attributes': is(1, async () => (await things.getAttributes(ID)).a),
  'create an attribute': gives(201, () => things.putAttribute(ID, 'x/y', { z: 1 })),
  'replace an attribute': gives(204, () => things.putAttribute(ID, 'x/y', { z: 2 })),
  'merge an attribute': gives(204, () => things.patchAttribute(ID, 'x', { w: 2 })),
  'retrieve an attribute': is({ y: { z: 2 }, w: 2 }, () => things.getAttribute(ID, 'x')),
  'delete an attribute': () => things.deleteAttribute(ID, 'x'),
  'merge attributes': gives(204, () => things.patchAttributes(ID, { v: 2 })),
  'replace attributes': gives(204, () => things.putAttributes(ID, { a: 2 })),
  'create a feature': gives(201, () => features.putFeature(new Feature('g', ['a:b:1'], { p: { q: 1 } }, { p: 2 }))),
  'merge a feature': gives(204, () => features.patchFeature(new Feature('g', undefined, { k: 1 }))),
  'retrieve a feature': is(1, async () => (await features.getFeature('g')).properties.p.q),
  'replace its definition': gives(204, () => features.putDefinition('g', ['a:b:2'])),
  'retrieve its definition': is(['a:b:2'], () => features.getDefinition('g')),
  'delete its definition': () => features.deleteDefinition('g'),
  'replace its properties': gives(204, () => features.putProperties('g', { r: { s: 1 } })),
  'merge its properties': gives(204, () => features.patchProperties('g', { u: 1 })),
  'create a property': gives(201, () => features.putProperty('g', 'r/n', 1)),
  'merge a property': gives(204, () => features.patchProperty('g', 'r/n', 2)),
  'retrieve a property': is(2, () => features.getProperty('g', 'r/n')),
  'delete a property': () => features.deleteProperty('g', 'r'),
  'delete its properties': () => features.deleteProperties('g'),
  'merge features': gives(204, () => features.patchFeatures(Features.fromObject({ h: { properties: { k: 1 } } }))),
  'replace features': gives(204, () => features.putFeatures(Features.fromObject({ h: { properties: { k: 1 } } }))),
  'retrieve features': is(1, async () => (await features.getFeatures()).h.properties.k),
  'delete a feature': () => features.deleteFeature('h'),
  'delete features': () => features.deleteFeatures(),
  'create a policy': gives(201, () => policies.putPolicy(policy())),
  'replace a policy': gives(204, () => policies.putPolicy(policy())),
  'retrieve a policy': is(['owner'], async () => Object.keys((await policies.getPolicy(POLICY)).entries)),
  'create an entry': gives(201, () => policies.putEntry(POLICY, Entry.fromObject(GUEST, 'guest'))),
  'retrieve an entry': () => policies.getEntry(POLICY, 'guest'),
  'create a subject': gives(201, () => policies.putSubject(POLICY, 'guest', Subject.fromObject({ type: 'z' }, 'nginx:adam'))),
  'retrieve a subject': () => policies.getSubject(POLICY, 'guest', 'nginx:adam'),
  'create a resource': gives(201, () =>
    policies.putResource(POLICY, 'guest', Resource.fromObject({ grant: [], revoke: ['READ'] }, 'thing:/features/f'))),
  'retrieve a resource': () => policies.getResource(POLICY, 'guest', 'thing:/features/f'),
  'replace subjects': gives(204, () => policies.putSubjects(POLICY, 'guest', Subjects.fromObject(GUEST.subjects))),
  'replace resources': gives(204, () => policies.putResources(POLICY, 'guest', Resources.fromObject(GUEST.resources))),
  'retrieve subjects': () => policies.getSubjects(POLICY, 'guest'),
  'retrieve resources': () => policies.getResources(POLICY, 'guest'),
  'replace entries': gives(204, () => policies.putEntries(POLICY, Entries.fromObject({ owner: OWNER, guest: GUEST }))),
  'retrieve entries': () => policies.getEntries(POLICY),
  'delete a subject': () => policies.deleteSubject(POLICY, 'guest', 'nginx:eve'),
  'delete a resource': () => policies.deleteResource(POLICY, 'guest', 'thing:/'),
  'delete an entry': () => policies.deleteEntry(POLICY, 'guest'),
  'miss a policy': refuses(404, () => policies.getPolicy('js:none')),
  'delete a policy': () => policies.deletePolicy(POLICY),
  'search': is([ID], async () => (await search.search(filter(`eq(thingId,"${ID}")`))).items.map((item) => item.thingId)),
  'search by post': is(1, async () => (await search.postSearch(filter('eq(attributes/a,2)'))).items.length),
  'search sorted': is(1, async () =>
    (await search.search(ditto.DefaultSearchOptions.getInstance().withFields('thingId').withSort('+thingId'))).items.length),
  'count': is(1, () => search.count(filter('exists(attributes/a)'))),
  'count by post': is(0, () => search.postCount(filter('gt(attributes/a,5)'))),
  'refuse a wrong filter': refuses(400, () => search.search(filter('eq('))),
  'delete a thing': () => things.deleteThing(ID),
  'miss a thing': refuses(404, () => things.getThing(ID)),
};

(async () => {
  let failed = 0;
  for (const [name, step] of Object.entries(STEPS)) {
    try {
      await step();
    } catch (error) {
      failed += 1;
      console.log(`${name}: ${error.message || JSON.stringify(error)}`);
    }
  }
  console.log(`${Object.keys(STEPS).length - failed} of ${Object.keys(STEPS).length} steps`);
  process.exit(failed ? 1 : 0);
})();
