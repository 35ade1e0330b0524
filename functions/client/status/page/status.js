;(() => {
  const everyMs = 2000
  /** The session's access token: here and nowhere else. */
  let token
  let paused = false
  let timer
  const byId = (id) => document.getElementById(id)

  async function call(method, path, body, options = {}) {
    const headers = { ...(token ? { Authorization: `Bearer ${token}` } : {}) }
    if (body !== undefined) headers['Content-Type'] = 'application/json'
    const request = { method, headers, body: body === undefined ? undefined : JSON.stringify(body), ...options }
    const response = await fetch(path, { credentials: 'omit', cache: 'no-store', ...request })
    const answer = await response.json().catch(() => ({}))
    if (!response.ok)
      throw Object.assign(new Error(answer.error || `status ${response.status}`), { status: response.status })
    return answer
  }

  byId('login').addEventListener('submit', async (event) => {
    event.preventDefault()
    const form = event.target
    const button = form.querySelector('button')
    byId('refused').textContent = ''
    button.disabled = true
    try {
      const session = await call('POST', '/_matrix/client/v3/login', {
        type: 'm.login.password',
        identifier: { type: 'm.id.user', user: form.elements.user.value },
        password: form.elements.password.value,
        initial_device_display_name: 'Status page',
      })
      form.elements.password.value = ''
      token = session.access_token
      show(await call('GET', '/_synapse/admin/v1/ganglion/status'))
      form.hidden = true
      byId('status').hidden = false
      byId('controls').hidden = false
      byId('pause').focus()
      next()
    } catch (error) {
      byId('refused').textContent = error.message
      await leave()
      form.elements.user.focus()
    } finally {
      button.disabled = false
    }
  })

  async function leave() {
    clearTimeout(timer)
    if (token) await call('POST', '/_matrix/client/v3/logout', {}, { keepalive: true }).catch(() => undefined)
    token = undefined
    byId('login').hidden = false
    byId('status').hidden = true
    byId('controls').hidden = true
    say('')
  }
  byId('leave').addEventListener('click', async () => {
    await leave()
    byId('user').focus()
  })
  // No session is left behind by a page that is closed.
  addEventListener('pagehide', () => void leave())

  byId('pause').addEventListener('click', () => {
    paused = !paused
    byId('pause').setAttribute('aria-pressed', String(paused))
    byId('pause').textContent = paused ? 'Go on' : 'Pause'
    if (!paused) update()
    else clearTimeout(timer)
  })

  function next() {
    clearTimeout(timer)
    if (token && !paused) timer = setTimeout(update, everyMs)
  }
  async function update() {
    try {
      show(await call('GET', '/_synapse/admin/v1/ganglion/status'))
    } catch (error) {
      if (error.status === 401 || error.status === 403) {
        byId('refused').textContent = error.message
        await leave()
      } else say(`No answer: ${error.message}`, true)
    }
    next()
  }

  /** Told to screen readers only when it changes. */
  function say(text, bad = false) {
    const state = byId('state')
    if (state.textContent !== text) state.textContent = text
    state.classList.toggle('bad', bad)
  }

  const number = new Intl.NumberFormat('en')
  const whole = (value) => number.format(Math.round(value))
  const ms = (value) => (value >= 1000 ? `${(value / 1000).toFixed(1)} s` : `${value.toFixed(value < 10 ? 1 : 0)} ms`)
  const percent = (value) => `${(100 * value).toFixed(value > 0.995 ? 0 : 1)} %`
  const megabytes = (bytes) => `${whole(bytes / 1024 / 1024)} MB`
  function duration(value) {
    const minutes = Math.floor(value / 60000)
    if (minutes < 1) return `${Math.floor(value / 1000)} s`
    if (minutes < 120) return `${minutes} min`
    return minutes < 2880 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1440)} d`
  }

  function element(name, text, className) {
    const made = document.createElement(name)
    if (text !== undefined) made.textContent = text
    if (className) made.className = className
    return made
  }

  /** Columns: [title, is a number]. Cells are texts; what is bad is told in words and colour. */
  function table(id, columns, rows, nothing) {
    const head = element('tr')
    for (const [title, isNumber] of columns) {
      const cell = element('th', title, isNumber ? 'number' : '')
      cell.scope = 'col'
      head.append(cell)
    }
    const body = rows.map((cells) => {
      const row = element('tr')
      cells.forEach((cell, i) => {
        const { text, bad } = typeof cell === 'object' ? cell : { text: cell, bad: false }
        row.append(element('td', text, `${columns[i][1] ? 'number' : ''}${bad ? ' bad' : ''}`))
      })
      return row
    })
    if (body.length === 0) {
      const row = element('tr')
      const cell = element('td', nothing)
      cell.colSpan = columns.length
      row.append(cell)
      body.push(row)
    }
    const thead = element('thead')
    thead.append(head)
    const tbody = element('tbody')
    tbody.append(...body)
    byId(id).replaceChildren(thead, tbody)
  }

  function show(status) {
    const { processes, mains, shards, streams, destinations } = status
    byId('server').textContent = status.server_name
    const kind = status.separate_roles ? 'roles run apart' : 'one process with all roles'
    const redis = status.separate_roles && !status.redis_reached ? '; Redis is away' : ''
    say(`Version ${status.version}, ${kind}${redis}`, redis !== '')

    const sum = (value) => processes.reduce((total, process) => total + value(process), 0)
    const most = (value) => processes.reduce((largest, process) => Math.max(largest, value(process)), 0)
    const free = shards.filter(({ owner }) => owner === null).length
    const glance = [
      ['processes', whole(processes.length)],
      ['clients waiting', whole(sum((process) => process.waiting))],
      ['largest lag', ms(most((process) => process.lag_ms))],
      ['busiest event loop', percent(most((process) => process.busy))],
      ['memory together', megabytes(sum((process) => process.memory_bytes))],
      ['events', whole(streams.events ?? 0)],
      ['shards without owner', whole(free), free > 0],
      ['other servers', whole(destinations.total)],
      ['that do not answer', whole(destinations.failing)],
    ]
    byId('glance').replaceChildren(
      ...glance.map(([name, value, bad]) => {
        const group = element('div')
        group.append(element('dt', name), element('dd', value, bad ? 'bad' : ''))
        return group
      }),
    )

    table(
      'processes',
      [
        ['Role'],
        ['Process'],
        ['Host'],
        ['Up', true],
        ['Memory', true],
        ['Busy', true],
        ['Waiting', true],
        ['Lag', true],
        ['Redis', true],
        ['Version'],
      ],
      processes.map((process) => [
        process.role,
        process.url ? `${process.id} (${process.url})` : process.id,
        `${process.host}, ${process.pid}`,
        duration(process.uptime_ms),
        megabytes(process.memory_bytes),
        { text: percent(process.busy), bad: process.busy > 0.9 },
        whole(process.waiting),
        { text: ms(process.lag_ms), bad: process.lag_ms > 1000 },
        process.redis_ms > 0 ? ms(process.redis_ms) : '',
        process.version,
      ]),
      'No process says anything.',
    )

    const owned = new Map()
    for (const { owner } of shards) if (owner !== null) owned.set(owner, (owned.get(owner) ?? 0) + 1)
    const names = [...new Set([...mains.map(({ id }) => id), ...owned.keys()])].sort()
    const letter = (owner) => (owner === null ? '–' : String.fromCharCode(65 + (names.indexOf(owner) % 26)))
    table(
      'mains',
      [[''], ['Main'], ['Takes commands at'], ['Shards', true], ['Lease'], ['']],
      names.map((id) => {
        const main = mains.find((one) => one.id === id)
        const lease = !main ? 'gone' : main.left_ms === null ? 'alone' : main.left_ms < 0 ? 'over' : ms(main.left_ms)
        return [
          letter(id),
          id,
          main ? main.url || 'itself' : '',
          whole(owned.get(id) ?? 0),
          { text: lease, bad: lease === 'gone' || lease === 'over' },
          main?.leaving ? 'leaving' : main?.standby ? 'standby' : '',
        ]
      }),
      'No main lives: nothing can be written.',
    )
    byId('shards').replaceChildren(
      ...shards.map(({ shard, owner, epoch }) => {
        const item = element('li', `${shard} ${letter(owner)}`, owner === null ? 'free' : '')
        item.title = owner === null ? `shard ${shard} is free` : `shard ${shard}: ${owner}, epoch ${epoch}`
        if (owner !== null) item.style.setProperty('--hue', String((names.indexOf(owner) * 67 + 150) % 360))
        return item
      }),
    )

    const names_ = new Set([...Object.keys(streams), ...processes.flatMap(({ positions }) => Object.keys(positions))])
    table(
      'streams',
      [['Stream'], ['In the database', true], ['Known furthest', true], ['Known least', true], ['Behind', true]],
      [...names_].sort().map((name) => {
        const known = processes.flatMap(({ positions }) => (name in positions ? [positions[name]] : []))
        const stored = streams[name]
        const least = known.length > 0 ? Math.min(...known) : undefined
        const isStored = stored !== undefined
        const behind = isStored && least !== undefined ? Math.max(0, stored - least) : 0
        return [
          name,
          isStored ? whole(stored) : 'in memory',
          known.length > 0 ? whole(Math.max(...known)) : '',
          least === undefined ? '' : whole(least),
          isStored ? whole(behind) : '',
        ]
      }),
      'No stream.',
    )

    const ago = (ts) => (ts === null ? '' : duration(Math.max(0, status.now_ts - ts)))
    table(
      'destinations',
      [
        ['Server'],
        ['For', true],
        ['Attempts', true],
        ['Next in', true],
        ['Events', true],
        ['EDUs', true],
        ['Oldest', true],
        ['Last error'],
      ],
      destinations.longest.map(({ waiting, ...one }) => [
        one.server_name,
        ago(one.failing_since_ts),
        whole(one.attempts),
        one.retry_ts === null ? '' : duration(Math.max(0, one.retry_ts - status.now_ts)),
        waiting ? whole(waiting.events) : '',
        waiting ? whole(waiting.edus) : '',
        waiting ? ago(waiting.oldest_ts) : '',
        one.last_error ?? '',
      ]),
      'Every one that was sent to answered last.',
    )

    table(
      'queues',
      [['Process'], ['Number'], ['Value', true]],
      processes.flatMap(({ id, numbers }) =>
        Object.entries(numbers)
          .sort(([a], [b]) => a.localeCompare(b))
          .map(([name, value]) => [id, name, whole(value)]),
      ),
      'No process tells of any.',
    )
    table(
      'caches',
      [['Process'], ['Cache'], ['Look-ups', true], ['Found', true], ['Holds', true]],
      processes.flatMap(({ id, caches }) =>
        Object.entries(caches)
          .sort(([a], [b]) => a.localeCompare(b))
          .map(([name, { hits, misses, size }]) => [
            id,
            name.replace(/_bytes$/, ''),
            whole(hits + misses),
            hits + misses > 0 ? percent(hits / (hits + misses)) : '',
            size === undefined ? '' : name.endsWith('_bytes') ? megabytes(size) : whole(size),
          ]),
      ),
      'No process tells of any.',
    )
  }
})()
