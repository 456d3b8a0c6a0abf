/** Accounts as they change, and a match as it happens. */
import {
  type AccountNotificationsApi,
  type Address,
  getBase64Encoder,
  type ReadonlyUint8Array,
  type RpcSubscriptions,
} from '@solana/kit';
import { getStateDecoder, type State } from './generated';

/** An account's bytes at each change from now on, oldest first, until `abortSignal` says so. */
export async function* changes(
  rpcSubscriptions: RpcSubscriptions<AccountNotificationsApi>,
  account: Address,
  { abortSignal }: { abortSignal: AbortSignal },
): AsyncGenerator<ReadonlyUint8Array> {
  const told = await rpcSubscriptions
    .accountNotifications(account, { commitment: 'processed', encoding: 'base64' })
    .subscribe({ abortSignal });
  const base64 = getBase64Encoder();
  for await (const { value } of told) yield base64.encode(value.data[0]);
}

/** The states of a match from now on, oldest first, until `abortSignal` says so. */
export async function* states(
  rpcSubscriptions: RpcSubscriptions<AccountNotificationsApi>,
  state: Address,
  options: { abortSignal: AbortSignal },
): AsyncGenerator<State> {
  const decoder = getStateDecoder();
  for await (const bytes of changes(rpcSubscriptions, state, options)) yield decoder.decode(bytes);
}
