/** What the room engine asks of stored state. A state's root is an integer; two roots share what they have in common. */
import { type StateDifference, stateMapKey } from '../../../shared/storage/state.ts'
import type { StateWrites } from './writes.ts'

export type { StateDifference }
export { stateMapKey }

export interface StateChange {
  readonly type: string
  readonly state_key: string
  /** undefined: the key is taken away. */
  readonly event_nid: number | undefined
}

export interface StateTrees {
  /** A new root: `base_root` with `changes`. Usable as a base at once; `writes` must join the commit of the events that
   *  refer to the root, or an earlier one. A caller whose commit fails forgets the root. */
  apply(
    base_root: number | undefined,
    room_nid: number,
    changes: readonly StateChange[],
  ): Promise<{ readonly root_id: number; readonly writes: StateWrites }>
  /** The whole state: stateMapKey -> event_nid. */
  load(root_id: number): Promise<Map<string, number>>
  /** The few keys asked for, in their order. */
  lookup(
    root_id: number,
    keys: readonly (readonly [type: string, state_key: string])[],
  ): Promise<(number | undefined)[]>
  /** Where the two differ, in no order. */
  diff(rootA: number, rootB: number): Promise<StateDifference[]>
}
