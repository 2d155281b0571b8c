// What imapflow does with a mailbox, told line by line as JSON; the test decides whether it is right.
// Its arguments come as JSON in the environment: host, port, user, password, ca (a PEM file), subject.
'use strict';

const { readFileSync } = require('node:fs');
const { ImapFlow } = require('imapflow');

const given = JSON.parse(process.env.IMAPFLOW);
const LIMIT_MS = 20_000;

function client(options = {}) {
    const made = new ImapFlow({
        host: given.host,
        port: given.port,
        secure: true,
        auth: { user: given.user, pass: given.password },
        tls: { ca: readFileSync(given.ca) },
        qresync: true,
        logger: false,
        ...options
    });
    made.on('error', error => {
        throw error;
    });
    return made;
}

function plain(value) {
    if (typeof value === 'bigint') return Number(value);
    if (value instanceof Date) return value.toISOString();
    if (Buffer.isBuffer(value)) return value.toString('latin1');
    if (value instanceof Set) return [...value].sort();
    if (value instanceof Map) return Object.fromEntries([...value].map(([name, one]) => [name, plain(one)]));
    if (Array.isArray(value)) return value.map(plain);
    if (value && typeof value === 'object') {
        return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plain(one)]));
    }
    return value;
}

function tell(step, value) {
    process.stdout.write(JSON.stringify({ step, value: plain(value) }) + '\n');
}

/** Resolves with what `emitter` says next under this name. */
function heard(emitter, name) {
    return new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`no ${name}`)), LIMIT_MS);
        emitter.once(name, value => {
            clearTimeout(timer);
            resolve(value);
        });
    });
}

async function main() {
    const one = client();
    await one.connect();
    tell('signed in', { id: one.serverInfo, capabilities: [...one.capabilities.keys()], enabled: one.enabled });
    tell('folders', (await one.list()).map(({ path, specialUse }) => ({ path, specialUse })));
    tell('created', await one.mailboxCreate(['Projekte', 'Größe & Maß']));

    const opened = await one.mailboxOpen('INBOX');
    const { exists, uidNext, uidValidity, highestModseq, mailboxId } = opened;
    tell('opened', { exists, uidNext, uidValidity, highestModseq, mailboxId });

    const rows = [];
    const wanted = {
        uid: true, flags: true, envelope: true, bodyStructure: true, internalDate: true, size: true, source: true,
        threadId: true, headers: ['subject']
    };
    for await (const row of one.fetch('1:*', wanted)) rows.push(row);
    tell('fetched', rows);
    tell('found', await one.search({ header: { subject: given.subject }, seen: false }, { uid: true }));
    tell('text', await one.search({ body: 'text 2' }, { uid: true }));
    const part = await one.download('1', '2', { uid: true });
    const octets = [];
    for await (const piece of part.content) octets.push(piece);
    tell('part', { meta: part.meta, content: Buffer.concat(octets) });

    tell('flagged', await one.messageFlagsAdd('1:2', ['\\Flagged', '$Label1'], { uid: true }));
    tell('unflagged', await one.messageFlagsRemove('2', ['\\Flagged'], { uid: true }));
    tell('moved', await one.messageMove('2', ['Projekte', 'Größe & Maß'], { uid: true }));
    tell('copied', await one.messageCopy('1', 'Archive', { uid: true }));
    tell('appended', await one.append('INBOX', given.append, ['\\Draft'], new Date('2024-05-01T12:30:15Z')));
    const remembered = one.mailbox.highestModseq;
    tell('status', await one.status('INBOX', { messages: true, uidNext: true, unseen: true, highestModseq: true, size: true }));
    tell('quota', await one.getQuota('INBOX'));

    // While it idles it hears of a delivery, and of what another session flags and deletes. (The delivery comes first:
    // imapflow takes nothing off its count at VANISHED, and so would miss an EXISTS that only makes up for it.)
    const two = client();
    await two.connect();
    await two.mailboxOpen('INBOX');
    const idling = one.idle();
    const arrival = heard(one, 'exists');
    tell('idling', null);
    tell('exists', await arrival);
    const flags = heard(one, 'flags');
    await two.messageFlagsAdd('1', ['\\Answered'], { uid: true });
    tell('flags', await flags);
    const expunge = heard(one, 'expunge');
    await two.messageDelete('1', { uid: true });
    tell('expunge', await expunge);
    await one.noop();
    await idling;
    await two.logout();

    // What has changed since the modification sequence that was remembered: by CONDSTORE, and by QRESYNC in SELECT.
    const changed = [];
    for await (const row of one.fetch('1:*', { uid: true, flags: true }, { uid: true, changedSince: remembered })) {
        changed.push(row.uid);
    }
    tell('changed', changed);
    const three = client();
    await three.connect();
    const vanished = heard(three, 'expunge');
    await three.mailboxOpen('INBOX', { changedSince: remembered, uidValidity });
    tell('vanished', await vanished);
    await three.logout();
    await one.mailboxRename(['Projekte', 'Größe & Maß'], 'Alt');
    tell('renamed', (await one.list()).map(({ path }) => path));
    await one.logout();
    tell('done', null);
}

main().catch(error => {
    process.stderr.write(`${error.stack}\n${JSON.stringify(error)}\n`);
    process.exit(1);
});
