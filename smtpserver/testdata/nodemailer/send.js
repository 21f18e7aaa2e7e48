// Sends a file to recipients 0@example.org and so on, two in each transaction.
"use strict";
const fs = require("fs");
const nodemailer = require("nodemailer");

async function main(target) {
  const raw = fs.readFileSync(target.message);
  const transport = nodemailer.createTransport({
    host: target.host,
    port: Number(target.port),
    name: "nodemailer.example",
    lmtp: target.lmtp,
    secure: target.security === "tls",
    requireTLS: target.security === "starttls",
    ignoreTLS: target.security === "clear",
    tls: target.ca ? { ca: fs.readFileSync(target.ca) } : undefined,
    auth: target.mechanism ? { user: target.user, pass: target.password } : undefined,
    authMethod: target.mechanism || undefined,
    pool: target.connections > 1,
    maxConnections: target.connections,
  });
  const sent = [];
  for (let i = 0; i < target.messages; i++) {
    const to = [`${2 * i}@example.org`, `${2 * i + 1}@example.org`];
    sent.push(transport.sendMail({ envelope: { from: "sender@example.com", to, use8BitMime: true }, raw }));
  }
  for (const info of await Promise.all(sent)) {
    if (info.accepted.length !== 2 || info.rejected.length !== 0) {
      throw new Error(JSON.stringify(info));
    }
  }
  transport.close();
}

main(JSON.parse(process.argv[2])).catch((err) => {
  console.error(err);
  process.exitCode = 1;
});
