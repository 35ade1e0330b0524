/** Commands on a user's push rules. https://spec.matrix.org/v1.19/client-server-api/#push-rules-api */
import * as v from 'valibot'
import { PushActions, PushConditions, RuleKind } from '../core/push/ruleset.ts'
import { RoomId, UserId } from '../matrix/ids.ts'
import { defineCommand } from './define.ts'

const noReply = v.object({})
const ruleName = { user_id: UserId, kind: RuleKind, rule_id: v.string() }

export const pushRuleCommands = {
  /** Adds a rule of the user's own, or gives it a new definition. */
  putPushRule: defineCommand({
    name: 'putPushRule',
    request: v.object({
      ...ruleName,
      actions: PushActions,
      conditions: v.optional(PushConditions),
      pattern: v.optional(v.string()),
      before: v.optional(v.string()),
      after: v.optional(v.string()),
    }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  deletePushRule: defineCommand({
    name: 'deletePushRule',
    request: v.object(ruleName),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  setPushRuleEnabled: defineCommand({
    name: 'setPushRuleEnabled',
    request: v.object({ ...ruleName, enabled: v.boolean() }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  setPushRuleActions: defineCommand({
    name: 'setPushRuleActions',
    request: v.object({ ...ruleName, actions: PushActions }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  /** After a room's upgrade: what users asked for the old room holds in the new one too. */
  copyRoomPushRules: defineCommand({
    name: 'copyRoomPushRules',
    request: v.object({ user_id: UserId, from: RoomId, to: RoomId }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
} as const
