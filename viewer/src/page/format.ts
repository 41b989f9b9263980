/** Numbers as people read them. */

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const whole = (value: number): string => WHOLE.format(value);

export const probability = (value: number): string => value.toFixed(2);

/** Three digits that count: 0.00123, 12.3, 1,230. */
export function significant(value: number, digits = 3): string {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size < 1e-4) return value.toExponential(digits - 1);
  if (size >= 1000) return whole(value);
  return String(Number(value.toPrecision(digits)));
}

/** A length in level-0 pixels, in µm or mm where the scale is known. */
export function lengthOf(pixels: number, mpp: number | null): string {
  if (mpp === null) return `${whole(pixels)} px`;
  const um = pixels * mpp;
  return um >= 10_000 ? `${(um / 1000).toFixed(2)} mm` : um >= 99.95 ? `${whole(um)} µm` : `${um.toFixed(1)} µm`;
}

/** The next smaller number of the form 1, 2 or 5 × 10ⁿ. */
export function roundDown(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  const first = value / power;
  return (first >= 5 ? 5 : first >= 2 ? 2 : 1) * power;
}
