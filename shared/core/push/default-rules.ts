/** The server-default rules, in the specification's order.
 *  https://spec.matrix.org/v1.19/client-server-api/#predefined-rules */
import { localpartOf, type UserId } from '../../matrix/ids.ts'
import type { PushAction, PushCondition, PushRule, PushRuleset } from './ruleset.ts'

const notify = 'notify'
const highlight = { set_tweak: 'highlight' }
const sound = (value: string) => ({ set_tweak: 'sound', value })
const match = (key: string, pattern: string): PushCondition => ({ kind: 'event_match', key, pattern })
const memberCount = (is: string): PushCondition => ({ kind: 'room_member_count', is })
const isProperty = (key: string, value: string | boolean): PushCondition => ({ kind: 'event_property_is', key, value })
const senderMayNotify = (key: string): PushCondition => ({ kind: 'sender_notification_permission', key })

function rule(name: string, conditions: PushCondition[], actions: PushAction[]): PushRule {
  return { rule_id: `.m.rule.${name}`, default: true, enabled: true, conditions, actions }
}
/** Polls are no part of the specification yet; clients send them under these names. MSC3930. */
function pollRule(name: string, conditions: PushCondition[], actions: PushAction[]): PushRule {
  return { ...rule(name, conditions, actions), rule_id: `.org.matrix.msc3930.rule.${name}` }
}

/** Rules that look for mentions in the body. Version 1.17 of the specification dropped them; they are kept for clients
 *  that do not say whom they mention, and have no effect on an event with `m.mentions`. */
export const bodyMentionRules: ReadonlySet<string> = new Set([
  '.m.rule.contains_display_name',
  '.m.rule.roomnotif',
  '.m.rule.contains_user_name',
])

/** What a user has who never changed a rule. */
export function defaultRules(user_id: UserId): PushRuleset {
  const containsUserName: PushRule = {
    rule_id: '.m.rule.contains_user_name',
    default: true,
    enabled: true,
    pattern: localpartOf(user_id),
    actions: [notify, sound('default'), highlight],
  }
  return {
    override: [
      { ...rule('master', [], []), enabled: false },
      rule('suppress_notices', [match('content.msgtype', 'm.notice')], []),
      rule(
        'invite_for_me',
        [match('type', 'm.room.member'), match('content.membership', 'invite'), match('state_key', user_id)],
        [notify, sound('default')],
      ),
      rule('member_event', [match('type', 'm.room.member')], []),
      rule(
        'is_user_mention',
        [{ kind: 'event_property_contains', key: 'content.m\\.mentions.user_ids', value: user_id }],
        [notify, sound('default'), highlight],
      ),
      rule('contains_display_name', [{ kind: 'contains_display_name' }], [notify, sound('default'), highlight]),
      rule(
        'is_room_mention',
        [isProperty('content.m\\.mentions.room', true), senderMayNotify('room')],
        [notify, highlight],
      ),
      rule('roomnotif', [match('content.body', '@room'), senderMayNotify('room')], [notify, highlight]),
      rule('tombstone', [match('type', 'm.room.tombstone'), match('state_key', '')], [notify, highlight]),
      rule('reaction', [match('type', 'm.reaction')], []),
      rule('room.server_acl', [match('type', 'm.room.server_acl'), match('state_key', '')], []),
      rule('suppress_edits', [isProperty('content.m\\.relates_to.rel_type', 'm.replace')], []),
      pollRule('poll_response', [match('type', 'org.matrix.msc3381.poll.response')], []),
    ],
    content: [containsUserName],
    room: [],
    sender: [],
    underride: [
      rule('call', [match('type', 'm.call.invite')], [notify, sound('ring')]),
      rule(
        'encrypted_room_one_to_one',
        [memberCount('2'), match('type', 'm.room.encrypted')],
        [notify, sound('default')],
      ),
      rule('room_one_to_one', [memberCount('2'), match('type', 'm.room.message')], [notify, sound('default')]),
      rule('message', [match('type', 'm.room.message')], [notify]),
      rule('encrypted', [match('type', 'm.room.encrypted')], [notify]),
      pollRule(
        'poll_start_one_to_one',
        [memberCount('2'), match('type', 'org.matrix.msc3381.poll.start')],
        [notify, sound('default')],
      ),
      pollRule('poll_start', [match('type', 'org.matrix.msc3381.poll.start')], [notify]),
      pollRule(
        'poll_end_one_to_one',
        [memberCount('2'), match('type', 'org.matrix.msc3381.poll.end')],
        [notify, sound('default')],
      ),
      pollRule('poll_end', [match('type', 'org.matrix.msc3381.poll.end')], [notify]),
    ],
  }
}
