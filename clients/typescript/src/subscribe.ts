/** A match as it happens: every state that the chain publishes. */
import {
  type AccountNotificationsApi,
  type Address,
  getBase64Encoder,
  type RpcSubscriptions,
} from '@solana/kit';
import { getStateDecoder, type State } from './generated';

/** The states of a match from now on, oldest first, until `abortSignal` says so. */
export async function* states(
  rpcSubscriptions: RpcSubscriptions<AccountNotificationsApi>,
  state: Address,
  { abortSignal }: { abortSignal: AbortSignal },
): AsyncGenerator<State> {
  const changes = await rpcSubscriptions
    .accountNotifications(state, { commitment: 'processed', encoding: 'base64' })
    .subscribe({ abortSignal });
  const decoder = getStateDecoder();
  const base64 = getBase64Encoder();
  for await (const { value } of changes) yield decoder.decode(base64.encode(value.data[0]));
}
