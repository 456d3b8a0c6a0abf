// From the interface, as the program's own crate describes it (`interface.json`), to a Codama IDL.

import {
  accountNode,
  argumentValueNode,
  arrayTypeNode,
  bytesTypeNode,
  camelCase,
  constantDiscriminatorNode,
  constantPdaSeedNodeFromString,
  constantValueNodeFromBytes,
  definedTypeLinkNode,
  definedTypeNode,
  errorNode,
  fieldDiscriminatorNode,
  fixedCountNode,
  fixedSizeTypeNode,
  instructionAccountNode,
  instructionArgumentNode,
  instructionNode,
  instructionRemainingAccountsNode,
  numberTypeNode,
  numberValueNode,
  pdaLinkNode,
  pdaNode,
  programNode,
  publicKeyTypeNode,
  publicKeyValueNode,
  rootNode,
  sizeDiscriminatorNode,
  structFieldTypeNode,
  structTypeNode,
  variablePdaSeedNode,
} from 'codama';

/** Where our own chains load the program. */
export const PROGRAM = 'Wor1d1ine1111111111111111111111111111111111';

/** Layouts that stand alone in an account; the others are parts. */
const ACCOUNTS = {
  WorldAccount: 'world',
  SessionAccount: 'session',
  SessionState: 'state',
  InputAccount: 'inputs',
  FrameAccount: 'frame',
  ResultAccount: 'result',
  ScoreAccount: 'score',
};
/** Accounts that begin with a layout and go on with bytes. */
const HEADS = { WeightShard: 'shard', ReplayAccount: 'replay' };

/** What a part is called where an account has its name. */
const PARTS = { Session: 'sessionIdentity' };

/** 32 bytes of these names are addresses; of others, hashes and names. */
const ADDRESSES = new Set([
  'operator',
  'owner',
  'payer',
  'session',
  'session_key',
  'session_keys',
  'shards',
  'state',
  'inputs',
  'frame',
  'validator',
  'wallet',
  'wallets',
  'world',
  'writer',
]);

/** Accounts that are the same on every chain. */
const KNOWN = {
  system_program: '11111111111111111111111111111111',
  delegation_program: 'DELeGGvXpWV2fqJUhqcF5ZSYMS4JTLjteaAMARRSaeSh',
  magic_program: 'Magic11111111111111111111111111111111111111',
  context: 'MagicContext1111111111111111111111111111111',
};

/** A Rust type as a Codama type. */
function type(kind, name) {
  const array = /^\[(.+); (\d+)\]$/.exec(kind);
  if (array) {
    const [, item, count] = array;
    if (item !== 'u8') return arrayTypeNode(type(item, name), fixedCountNode(Number(count)));
    if (count === '32' && ADDRESSES.has(name)) return publicKeyTypeNode();
    return fixedSizeTypeNode(bytesTypeNode(), Number(count));
  }
  return /^[ui]\d+$/.test(kind) ? numberTypeNode(kind) : definedTypeLinkNode(PARTS[kind] ?? camelCase(kind));
}

/** Bytes of a Rust type without padding. */
function size(kind, layouts) {
  const array = /^\[(.+); (\d+)\]$/.exec(kind);
  if (array) return size(array[1], layouts) * Number(array[2]);
  const number = /^[ui](\d+)$/.exec(kind);
  if (number) return Number(number[1]) / 8;
  const layout = layouts.find((one) => one.name === kind);
  if (!layout) throw new Error(`no layout is called ${kind}`);
  return layout.bytes;
}

function fields(layout, layouts) {
  let end = 0;
  const nodes = layout.fields.map(({ name, kind, offset }) => {
    if (offset !== end) throw new Error(`${layout.name}.${name} begins at ${offset}, not ${end}`);
    end += size(kind, layouts);
    return structFieldTypeNode({ name, type: type(kind, name) });
  });
  if (end !== layout.bytes) throw new Error(`${layout.name} is ${layout.bytes} bytes, not ${end}`);
  return nodes;
}

function discriminators(layout, sized) {
  const nodes = sized ? [sizeDiscriminatorNode(layout.bytes)] : [];
  if (layout.discriminator) {
    const hex = layout.discriminator.map((byte) => byte.toString(16).padStart(2, '0')).join('');
    nodes.push(constantDiscriminatorNode(constantValueNodeFromBytes('base16', hex), 0));
  }
  return nodes;
}

function account(layout, layouts) {
  const name = ACCOUNTS[layout.name] ?? HEADS[layout.name];
  const head = layout.name in HEADS;
  const data = fields(layout, layouts);
  if (head) data.push(structFieldTypeNode({ name: 'content', type: bytesTypeNode() }));
  return accountNode({
    name,
    data: structTypeNode(data),
    ...(head ? {} : { size: layout.bytes }),
    ...(name === 'shard' ? {} : { pda: pdaLinkNode(name) }),
    discriminators: discriminators(layout, !head),
  });
}

function instruction(spec) {
  const tag = instructionArgumentNode({
    name: 'tag',
    type: numberTypeNode('u8'),
    defaultValue: numberValueNode(spec.tag),
    defaultValueStrategy: 'omitted',
  });
  const body = spec.fields.map(({ name, kind, docs }) =>
    instructionArgumentNode({ name, type: type(kind, name), docs: [docs] }),
  );
  const tail = instructionArgumentNode({
    name: 'content',
    type: bytesTypeNode(),
    docs: ['The bytes to write.'],
  });
  return instructionNode({
    name: spec.name,
    docs: [spec.docs],
    arguments: [tag, ...body, ...(spec.tail ? [tail] : [])],
    discriminators: [fieldDiscriminatorNode('tag', 0)],
    accounts: spec.accounts.map(({ name, signer, writable }) =>
      instructionAccountNode({
        name,
        isSigner: signer,
        isWritable: writable,
        ...(KNOWN[name] ? { defaultValue: publicKeyValueNode(KNOWN[name]) } : {}),
      }),
    ),
    remainingAccounts: spec.rest.map(({ name, signer, writable }) =>
      instructionRemainingAccountsNode(argumentValueNode(name), {
        isSigner: signer,
        isWritable: writable,
      }),
    ),
  });
}

/** The seeds of `abi::address`. */
function addresses() {
  const seed = (name, node) => variablePdaSeedNode(name, node);
  const key = (name) => seed(name, publicKeyTypeNode());
  const seeds = {
    world: [key('owner'), seed('id', numberTypeNode('u64'))],
    session: [key('payer'), seed('id', fixedSizeTypeNode(bytesTypeNode(), 16))],
    state: [key('session')],
    inputs: [key('session')],
    frame: [key('session')],
    page: [key('session'), seed('index', numberTypeNode('u8'))],
    result: [key('session')],
    replay: [key('session')],
    score: [key('world'), key('wallet')],
  };
  return Object.entries(seeds).map(([name, variable]) =>
    pdaNode({ name, seeds: [constantPdaSeedNodeFromString('utf8', name), ...variable] }),
  );
}

/** The IDL of an interface. */
export function idl(spec) {
  const alone = ({ name }) => name in ACCOUNTS || name in HEADS;
  return rootNode(
    programNode({
      name: 'worldModel',
      publicKey: PROGRAM,
      version: '0.1.0',
      pdas: addresses(),
      accounts: spec.layouts.filter(alone).map((layout) => account(layout, spec.layouts)),
      definedTypes: spec.layouts
        .filter((layout) => !alone(layout))
        .map((layout) =>
          definedTypeNode({
            name: PARTS[layout.name] ?? layout.name,
            type: structTypeNode(fields(layout, spec.layouts)),
          }),
        ),
      instructions: spec.instructions.map(instruction),
      errors: spec.faults.map(({ code, name, words }) => errorNode({ code, name, message: words })),
    }),
  );
}
