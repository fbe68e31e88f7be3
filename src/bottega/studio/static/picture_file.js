// Picture files on the page: from base64 to bytes, from bytes to a canvas.

const SMALL = 160; // pixels of a side below which single pixels are shown sharp

/** Return a PNG file of base64 text. */
export function decoded(text) {
  return new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], { type: "image/png" });
}

/** Show single pixels of a small picture sharp. */
export function sharpen(node, width, height) {
  node.classList.toggle("sharp", Math.max(width, height) < SMALL);
}

/** Draw a picture file on a canvas, at the file's own size. */
export async function paint(canvas, blob) {
  const bitmap = await createImageBitmap(blob);
  Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  sharpen(canvas, bitmap.width, bitmap.height);
  bitmap.close();
}
