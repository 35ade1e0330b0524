/** nginx on files of a folder: what a download can cost at best on the same machine. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../infra/dev/free-port.ts'
import { pause } from './scenario.ts'

export interface FileServer {
  readonly url: string
  stop(): Promise<void>
}

/** undefined: nginx is not installed. */
export async function nginxOn(folder: string, files: string): Promise<FileServer | undefined> {
  if (spawnSync('nginx', ['-v'], { stdio: 'ignore' }).status !== 0) return undefined
  const port = await freePort()
  mkdirSync(join(folder, 'nginx'), { recursive: true })
  const at = (name: string) => join(folder, 'nginx', name)
  writeFileSync(
    at('nginx.conf'),
    `daemon off; pid ${at('pid')}; error_log stderr error; worker_processes 1;
${process.getuid?.() === 0 ? 'user root;' : ''}
events { worker_connections 1024; }
http {
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
  client_body_temp_path ${at('b')}; proxy_temp_path ${at('p')}; fastcgi_temp_path ${at('f')};
  uwsgi_temp_path ${at('u')}; scgi_temp_path ${at('s')};
  server { listen 127.0.0.1:${port}; root ${files}; }
}
`,
  )
  const child: ChildProcess = spawn('nginx', ['-p', at(''), '-c', at('nginx.conf')], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const url = `http://127.0.0.1:${port}`
  while (child.exitCode === null) {
    if (
      await fetch(url).then(
        () => true,
        () => false,
      )
    )
      break
    await pause(20)
  }
  return {
    url,
    async stop() {
      child.kill('SIGTERM')
      await ended
    },
  }
}
