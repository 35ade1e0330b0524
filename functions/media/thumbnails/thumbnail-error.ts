export type ThumbnailProblem =
  /** No image of a type that is decoded here. */
  | 'unsupported'
  /** More bytes or more pixels than are decoded. */
  | 'too_large'
  /** It says that it is an image, and can't be decoded. */
  | 'broken'
  /** It took more time or memory than it may. */
  | 'timeout'
  /** Too many wait already. */
  | 'busy'
  | 'aborted'

export class ThumbnailError extends Error {
  readonly reason: ThumbnailProblem
  constructor(reason: ThumbnailProblem, message: string) {
    super(message)
    this.name = 'ThumbnailError'
    this.reason = reason
  }
}
