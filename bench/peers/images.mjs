// `node images.mjs ROUNDS FOLDER FILE...`: sharp at the same sizes, format and quality: once per size, and at its best, decoding once.
// A line of JSON for each file; the variants of its best way are written to the folder.
import { readFile, writeFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { createRequire } from 'node:module'

const sharp = createRequire(`${process.env.BENCH_NODE_MODULES}/`)('sharp')
const [rounds, folder, ...files] = process.argv.slice(2)
const webp = { quality: 82, effort: 2 }
const sides = [512, 256, 64]

sharp.concurrency(1)
sharp.cache(false)

async function perSize (file) {
  const made = []
  for (const side of sides) {
    made.push(await sharp(file).rotate().resize(side, side, { fit: 'cover' }).webp(webp).toBuffer())
  }
  return made
}

async function once (file) {
  const { data, info } = await sharp(file).rotate().resize(512, 512, { fit: 'cover' }).raw().toBuffer({ resolveWithObject: true })
  const raw = { width: info.width, height: info.height, channels: info.channels }
  const made = [await sharp(data, { raw }).webp(webp).toBuffer()]
  for (const side of [256, 64]) {
    made.push(await sharp(data, { raw }).resize(side, side).webp(webp).toBuffer())
  }
  return made
}

async function time (work, file) {
  const start = performance.now()
  const made = await work(file)
  return [performance.now() - start, made]
}

const median = times => times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)]

for (const path of files) {
  const file = await readFile(path)
  const times = { per_size_ms: [], once_ms: [] }
  let best
  for (let round = 0; round < Number(rounds); round++) {
    times.per_size_ms.push((await time(perSize, file))[0])
    const [took, made] = await time(once, file)
    times.once_ms.push(took)
    best = made
  }
  for (const [index, side] of sides.entries()) {
    await writeFile(`${folder}/sharp-${basename(path)}-${side}.webp`, best[index])
  }
  console.log(JSON.stringify({
    input: basename(path),
    version: sharp.versions.sharp,
    per_size_ms: median(times.per_size_ms),
    once_ms: median(times.once_ms)
  }))
}
