-- A journal as version 1 of the schema wrote it; never to be made anew.
BEGIN TRANSACTION;
CREATE TABLE cursors (
    name TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE entities (
    entity INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    alive INTEGER NOT NULL,
    UNIQUE (kind, id)
) STRICT;
INSERT INTO "entities" VALUES(1,'policy','demo:T1',1);
INSERT INTO "entities" VALUES(2,'thing','demo:T1',1);
INSERT INTO "entities" VALUES(3,'policy','demo:gone',1);
INSERT INTO "entities" VALUES(4,'thing','demo:gone',0);
CREATE TABLE journal (
    number INTEGER PRIMARY KEY,
    entity INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    observed INTEGER,
    digest INTEGER,
    event TEXT NOT NULL
) STRICT;
INSERT INTO "journal" VALUES(1,1,1,1700000001000000,NULL,NULL,'{"kind":"policy","id":"demo:T1","action":"created","revision":1,"timestamp":1700000001000000,"value":{"policyId":"demo:T1","entries":{"DEFAULT":{"subjects":{"nginx:anne":{"type":"generated"}},"resources":{"thing:/":{"grant":["READ","WRITE"],"revoke":[]},"policy:/":{"grant":["READ","WRITE"],"revoke":[]},"message:/":{"grant":["READ","WRITE"],"revoke":[]}},"importable":"implicit"}}}}');
INSERT INTO "journal" VALUES(2,2,1,1700000001000000,NULL,NULL,'{"kind":"thing","id":"demo:T1","action":"created","revision":1,"timestamp":1700000001000000,"value":{"thingId":"demo:T1","policyId":"demo:T1","definition":"wind:Turbine:1.0.0","attributes":{"name":"Τ1 – größe"}},"headers":{"ditto-originator":"nginx:anne"}}');
INSERT INTO "journal" VALUES(3,2,2,1700000002000000,NULL,NULL,'{"kind":"thing","id":"demo:T1","action":"created","revision":2,"timestamp":1700000002000000,"path":["attributes","height"],"value":92.5,"headers":{"ditto-originator":"nginx:anne"},"metadata":{"attributes":{"height":{"unit":"m"}}}}');
INSERT INTO "journal" VALUES(4,2,3,1700000003000000,1700000000000000,7,'{"kind":"thing","id":"demo:T1","action":"merged","revision":3,"timestamp":1700000003000000,"path":["features","scada"],"value":{"properties":{"power":1.5,"status":"ok"}},"observed":1700000000000000,"digest":7}');
INSERT INTO "journal" VALUES(5,2,4,1700000005000000,1699999999000000,8,'{"kind":"thing","id":"demo:T1","action":"merged","revision":4,"timestamp":1700000005000000,"path":["features","scada"],"observed":1699999999000000,"late":{"properties":{"power":0.5}},"digest":8}');
INSERT INTO "journal" VALUES(6,3,1,1700000007000000,NULL,NULL,'{"kind":"policy","id":"demo:gone","action":"created","revision":1,"timestamp":1700000007000000,"value":{"policyId":"demo:gone","entries":{"DEFAULT":{"subjects":{"nginx:anne":{"type":"generated"}},"resources":{"thing:/":{"grant":["READ","WRITE"],"revoke":[]},"policy:/":{"grant":["READ","WRITE"],"revoke":[]},"message:/":{"grant":["READ","WRITE"],"revoke":[]}},"importable":"implicit"}}}}');
INSERT INTO "journal" VALUES(7,4,1,1700000007000000,NULL,NULL,'{"kind":"thing","id":"demo:gone","action":"created","revision":1,"timestamp":1700000007000000,"value":{"thingId":"demo:gone","policyId":"demo:gone"},"headers":{"ditto-originator":"nginx:anne"}}');
INSERT INTO "journal" VALUES(8,4,2,1700000008000000,NULL,NULL,'{"kind":"thing","id":"demo:gone","action":"deleted","revision":2,"timestamp":1700000008000000,"headers":{"ditto-originator":"nginx:anne"}}');
INSERT INTO "journal" VALUES(9,2,5,1700000010000000,NULL,99,'{"kind":"thing","id":"demo:T1","action":"created","revision":5,"timestamp":1700000010000000,"path":["attributes","late"],"value":true,"headers":{"ditto-originator":"nginx:anne"},"digest":99}');
CREATE TABLE marks (
    name TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "marks" VALUES('checkpoint',9);
INSERT INTO "marks" VALUES('trimmed',0);
CREATE TABLE snapshots (
    entity INTEGER PRIMARY KEY,
    revision INTEGER NOT NULL,
    held TEXT NOT NULL
) STRICT;
INSERT INTO "snapshots" VALUES(1,1,'{"kind":"policy","id":"demo:T1","document":{"policyId":"demo:T1","entries":{"DEFAULT":{"subjects":{"nginx:anne":{"type":"generated"}},"resources":{"thing:/":{"grant":["READ","WRITE"],"revoke":[]},"policy:/":{"grant":["READ","WRITE"],"revoke":[]},"message:/":{"grant":["READ","WRITE"],"revoke":[]}},"importable":"implicit"}}},"revision":1,"number":1,"created":1700000001000000,"modified":1700000001000000,"metadata":null,"observed":{},"size":0,"slack":0}');
INSERT INTO "snapshots" VALUES(2,5,'{"kind":"thing","id":"demo:T1","document":{"thingId":"demo:T1","policyId":"demo:T1","definition":"wind:Turbine:1.0.0","attributes":{"name":"Τ1 – größe","height":92.5,"late":true},"features":{"scada":{"properties":{"power":1.5,"status":"ok"}}}},"revision":5,"number":9,"created":1700000001000000,"modified":1700000010000000,"metadata":{"attributes":{"height":{"unit":"m"}}},"observed":{"scada":{"power":1700000000000000,"status":1700000000000000}},"size":257,"slack":141}');
INSERT INTO "snapshots" VALUES(3,1,'{"kind":"policy","id":"demo:gone","document":{"policyId":"demo:gone","entries":{"DEFAULT":{"subjects":{"nginx:anne":{"type":"generated"}},"resources":{"thing:/":{"grant":["READ","WRITE"],"revoke":[]},"policy:/":{"grant":["READ","WRITE"],"revoke":[]},"message:/":{"grant":["READ","WRITE"],"revoke":[]}},"importable":"implicit"}}},"revision":1,"number":6,"created":1700000007000000,"modified":1700000007000000,"metadata":null,"observed":{},"size":0,"slack":0}');
INSERT INTO "snapshots" VALUES(4,2,'{"kind":"thing","id":"demo:gone","document":null,"revision":2,"number":8,"created":0,"modified":1700000008000000,"metadata":null,"observed":{},"size":0,"slack":0}');
CREATE UNIQUE INDEX journal_revision ON journal (entity, revision);
CREATE INDEX journal_observed ON journal (observed, digest) WHERE observed IS NOT NULL;
COMMIT;
