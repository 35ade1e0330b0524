/** The push rules API. https://spec.matrix.org/v1.19/client-server-api/#push-rules-api */
import * as v from 'valibot'
import { ruleOf } from '../../shared/core/push/edit-ruleset.ts'
import { PushActions, PushConditions, RuleKind } from '../../shared/core/push/ruleset.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import { pushRulesFor, rulesetFor } from '../../shared/storage/push-rules.ts'
import { route } from './deps.ts'

const RuleParams = v.object({ kind: RuleKind, ruleId: v.string() })
/** A rule that should be there. Of a kind that nobody knows there is none, which is no mistake of the path's form. */
const NamedRuleParams = v.object({
  kind: v.pipe(
    v.string(),
    v.transform((kind) => {
      if (v.is(RuleKind, kind)) return kind
      throw new MatrixError('M_NOT_FOUND', `There is no push rule of kind ${kind}`)
    }),
  ),
  ruleId: v.string(),
})
const pattern = v.pipe(v.string(), v.maxLength(1024))

export const getPushRules = route({
  method: 'GET',
  path: '/_matrix/client/v3/pushrules/',
  spec: 'client-server-api/#get_matrixclientv3pushrules',
  auth: 'user',
  handle: ({ user }, { sql }) => pushRulesFor(sql, user.user_id),
})

export const getPushRulesGlobal = route({
  method: 'GET',
  path: '/_matrix/client/v3/pushrules/global/',
  spec: 'client-server-api/#get_matrixclientv3pushrulesglobal',
  auth: 'user',
  handle: ({ user }, { sql }) => rulesetFor(sql, user.user_id),
})

export const getPushRule = route({
  method: 'GET',
  path: '/_matrix/client/v3/pushrules/global/:kind/:ruleId',
  spec: 'client-server-api/#get_matrixclientv3pushrulesglobalkindruleid',
  auth: 'user',
  params: NamedRuleParams,
  async handle({ params: { kind, ruleId }, user }, { sql }) {
    return ruleOf(await rulesetFor(sql, user.user_id), { kind, rule_id: ruleId })
  },
})

export const putPushRule = route({
  method: 'PUT',
  path: '/_matrix/client/v3/pushrules/global/:kind/:ruleId',
  spec: 'client-server-api/#put_matrixclientv3pushrulesglobalkindruleid',
  auth: 'user',
  limit: 'account',
  params: RuleParams,
  query: v.object({ before: v.optional(v.string()), after: v.optional(v.string()) }),
  body: v.object({
    actions: PushActions,
    conditions: v.optional(PushConditions),
    pattern: v.optional(pattern),
  }),
  handle: ({ params: { kind, ruleId }, query, body, user }, { main }) =>
    main.putPushRule({ user_id: user.user_id, kind, rule_id: ruleId, ...query, ...body }),
})

export const deletePushRule = route({
  method: 'DELETE',
  path: '/_matrix/client/v3/pushrules/global/:kind/:ruleId',
  spec: 'client-server-api/#delete_matrixclientv3pushrulesglobalkindruleid',
  auth: 'user',
  params: NamedRuleParams,
  handle: ({ params: { kind, ruleId }, user }, { main }) =>
    main.deletePushRule({ user_id: user.user_id, kind, rule_id: ruleId }),
})

export const getPushRuleEnabled = route({
  method: 'GET',
  path: '/_matrix/client/v3/pushrules/global/:kind/:ruleId/enabled',
  spec: 'client-server-api/#get_matrixclientv3pushrulesglobalkindruleidenabled',
  auth: 'user',
  params: NamedRuleParams,
  async handle({ params: { kind, ruleId }, user }, { sql }) {
    return { enabled: ruleOf(await rulesetFor(sql, user.user_id), { kind, rule_id: ruleId }).enabled }
  },
})

export const putPushRuleEnabled = route({
  method: 'PUT',
  path: '/_matrix/client/v3/pushrules/global/:kind/:ruleId/enabled',
  spec: 'client-server-api/#put_matrixclientv3pushrulesglobalkindruleidenabled',
  auth: 'user',
  params: NamedRuleParams,
  body: v.object({ enabled: v.boolean() }),
  handle: ({ params: { kind, ruleId }, body: { enabled }, user }, { main }) =>
    main.setPushRuleEnabled({ user_id: user.user_id, kind, rule_id: ruleId, enabled }),
})

export const getPushRuleActions = route({
  method: 'GET',
  path: '/_matrix/client/v3/pushrules/global/:kind/:ruleId/actions',
  spec: 'client-server-api/#get_matrixclientv3pushrulesglobalkindruleidactions',
  auth: 'user',
  params: NamedRuleParams,
  async handle({ params: { kind, ruleId }, user }, { sql }) {
    return { actions: ruleOf(await rulesetFor(sql, user.user_id), { kind, rule_id: ruleId }).actions }
  },
})

export const putPushRuleActions = route({
  method: 'PUT',
  path: '/_matrix/client/v3/pushrules/global/:kind/:ruleId/actions',
  spec: 'client-server-api/#put_matrixclientv3pushrulesglobalkindruleidactions',
  auth: 'user',
  params: NamedRuleParams,
  body: v.object({ actions: PushActions }),
  handle: ({ params: { kind, ruleId }, body: { actions }, user }, { main }) =>
    main.setPushRuleActions({ user_id: user.user_id, kind, rule_id: ruleId, actions }),
})

export const pushRuleRoutes = [
  getPushRules,
  getPushRulesGlobal,
  getPushRule,
  putPushRule,
  deletePushRule,
  getPushRuleEnabled,
  putPushRuleEnabled,
  getPushRuleActions,
  putPushRuleActions,
] as const
