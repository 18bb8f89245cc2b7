#!/usr/bin/python3
"""mails.py DIR [N | ID | last] [save] – mails the simulated mail server keeps in DIR, as a mail program shows them.

Without a second word all of them, a line each. N is the number of one, ID what its Message-ID begins
with. "save" writes its attachments beside it and says where.
"""
import email
import email.policy
import json
import os
import re
import sys
import textwrap


def load(path):
    """The envelope as the server noted it, and the message."""
    with open(path, 'rb') as file:
        return json.loads(file.readline()), email.message_from_binary_file(file, policy=email.policy.default)


def numbered(directory):
    numbers = sorted(int(name[5:]) for name in os.listdir(directory) if re.fullmatch(r'mail\.\d+', name))
    paths = [os.path.join(directory, 'mail.%d' % number) for number in numbers]
    return [(number, path, *load(path)) for number, path in zip(numbers, paths)]


def show(path, envelope, message, save):
    print('→ %s' % message['Subject'])
    print('   from %s to %s, %s' % (message['From'], message['To'], 'encrypted' if envelope['tls'] else 'in clear'))
    for line in message.get_body(('plain',)).get_content().strip().splitlines():
        print('\n'.join('   ' + part for part in textwrap.wrap(line, 100)))
    for part in message.iter_attachments():
        content = part.get_content()
        data = content.encode() if isinstance(content, str) else content
        print('   attached: %s, %s, %d bytes' % (part.get_filename(), part.get_content_type(), len(data)))
        if save:
            target = '%s-%s' % (path, os.path.basename(part.get_filename()))
            with open(target, 'wb') as file:
                file.write(data)
            print('   saved as %s' % target)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.stdout.reconfigure(encoding='utf-8')
    mails = numbered(sys.argv[1])
    wanted = sys.argv[2] if len(sys.argv) > 2 else None
    if wanted is None:
        for number, _, _, message in mails:
            print('%3d  %-26s %s%s' % (number, message['To'].addresses[0].addr_spec, message['Subject'],
                                       ''.join('  [%s]' % part.get_filename() for part in message.iter_attachments())))
        return
    found = [mail for mail in mails if wanted in ('last', str(mail[0])) or mail[3]['Message-ID'].startswith('<' + wanted + '@')]
    if not found:
        sys.exit('mails: there is no such mail')
    show(*found[-1][1:], save='save' in sys.argv[3:])


if __name__ == '__main__':
    main()
