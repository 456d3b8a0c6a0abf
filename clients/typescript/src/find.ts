/** What a chain holds: worlds, sessions, results, scores, by `getProgramAccounts`. */
import {
  type Address,
  type Base64EncodedBytes,
  getAddressEncoder,
  getBase64Decoder,
  getBase64Encoder,
  type GetProgramAccountsApi,
  type ReadonlyUint8Array,
  type Rpc,
} from '@solana/kit';
import {
  getResultDecoder,
  getScoreDecoder,
  getSessionDecoder,
  getWorldDecoder,
  RESULT_DISCRIMINATOR,
  type Result,
  type Score,
  SCORE_DISCRIMINATOR,
  type Session,
  SESSION_DISCRIMINATOR,
  type World,
  WORLD_DISCRIMINATOR,
  WORLD_MODEL_PROGRAM_ADDRESS,
} from './generated';

/** An account and where it lies. */
export interface Found<T> { address: Address; data: T }
type Searchable = Rpc<GetProgramAccountsApi>;
type Condition = [offset: number, bytes: ReadonlyUint8Array];

async function all<T>(rpc: Searchable, decoder: { decode(bytes: ReadonlyUint8Array): T; fixedSize: number }, conditions: Condition[]): Promise<Found<T>[]> {
  const memcmp = conditions.map(([offset, bytes]) => ({
    memcmp: { offset: BigInt(offset), bytes: getBase64Decoder().decode(bytes) as Base64EncodedBytes, encoding: 'base64' as const },
  }));
  const options = { commitment: 'processed', encoding: 'base64', filters: [{ dataSize: BigInt(decoder.fixedSize) }, ...memcmp] } as const;
  const found = await rpc.getProgramAccounts(WORLD_MODEL_PROGRAM_ADDRESS, options).send();
  const base64 = getBase64Encoder();
  return found.map(({ pubkey, account }) => ({ address: pubkey, data: decoder.decode(base64.encode(account.data[0])) }));
}

/** Every world, the most played first. */
export async function findWorlds(rpc: Searchable): Promise<Found<World>[]> {
  const worlds = await all(rpc, getWorldDecoder(), [[0, WORLD_DISCRIMINATOR]]);
  return worlds.sort((a, b) => Number(b.data.matches - a.data.matches) || Number(a.data.created - b.data.created));
}

/** Every open session; those with this id only, if one is given. */
export function findSessions(rpc: Searchable, id?: Uint8Array): Promise<Found<Session>[]> {
  const named: Condition[] = id === undefined ? [] : [[8, id]];
  return all(rpc, getSessionDecoder(), [[0, SESSION_DISCRIMINATOR], ...named]);
}

/** The results that are kept, the newest first. */
export async function findResults(rpc: Searchable): Promise<Found<Result>[]> {
  const results = await all(rpc, getResultDecoder(), [[0, RESULT_DISCRIMINATOR]]);
  return results.sort((a, b) => Number(b.data.recorded - a.data.recorded));
}

/** The scores in a world, the most wins first. */
export async function findScores(rpc: Searchable, world: Address): Promise<Found<Score>[]> {
  const scores = await all(rpc, getScoreDecoder(), [[0, SCORE_DISCRIMINATOR], [8, getAddressEncoder().encode(world)]]);
  return scores.sort((a, b) => b.data.wins - a.data.wins || a.data.losses - b.data.losses);
}
