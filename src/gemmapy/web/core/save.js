// What a table shows, as a file: CSV for spreadsheets, JSON for programs.

/** A cell that a spreadsheet would take for a formula gets an apostrophe before it. */
function cell(value) {
  if (value === null || value === undefined) return "";
  let text = typeof value === "object" ? JSON.stringify(value) : String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Rows are objects with the same keys. */
export function csv(rows) {
  if (!rows.length) return "";
  const names = Object.keys(rows[0]);
  const lines = [names.map(cell), ...rows.map((row) => names.map((name) => cell(row[name])))];
  return `${lines.map((line) => line.join(",")).join("\r\n")}\r\n`;
}

export function save(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = Object.assign(document.createElement("a"), { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

export const saveCsv = (name, rows) => save(`${name}.csv`, csv(rows), "text/csv;charset=utf-8");
export const saveJson = (name, rows) => save(`${name}.json`, `${JSON.stringify(rows, null, 2)}\n`, "application/json");
