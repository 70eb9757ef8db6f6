// Decimal numbers as text, since a price that goes through a float is another price.

const DECIMAL = /^\s*\$?\s*(\d*)(?:[.,](\d*))?\s*$/;

/** The text with its point moved `places` to the left (negative: to the right); null where it is no number. */
export function shift(text, places) {
  const found = DECIMAL.exec(text);
  if (!found || !(found[1] || found[2])) return null;
  const [whole, part] = [found[1] || "0", found[2] ?? ""];
  const digits = "0".repeat(Math.max(0, places - whole.length + 1)) + whole + part + "0".repeat(Math.max(0, -places - part.length));
  const point = digits.length - (part.length + Math.max(0, -places - part.length)) - places;
  const left = digits.slice(0, point).replace(/^0+(?=\d)/, "") || "0";
  const right = digits.slice(point).replace(/0+$/, "");
  return right ? `${left}.${right}` : left;
}

/** A number of the API as plain decimal text, without an exponent. */
export const plain = (value) => value.toFixed(12).replace(/\.?0+$/, "");
