#!/usr/bin/python3
"""Mail servers that do something wrong at one point, a port for each.

    badmail.py DIR CERT KEY     prints "NAME PORT" for every one, then "ready"

Every connection is a line of JSON in DIR/badmail when it ends: name of the server, the commands it
heard (in the clear: "plain", inside TLS: "tls"), and the text if its last line came. The servers know
the user "meter" with the password "s3cret, word". Written from RFC 5321, 3207 and 4954.
"""
import base64
import json
import os
import socket
import ssl
import sys
import threading
import time

DIRECTORY, CERT, KEY = sys.argv[1:4]
lock = threading.Lock()

# What a server does in place of what it should: at a point, answer something or "drop" or "silent".
SERVERS = {
    'good': {}, 'login': {'mechanisms': 'LOGIN'}, 'plain': {'mechanisms': 'PLAIN'}, 'no_auth': {'mechanisms': ''},
    'no_starttls': {'extensions': ['AUTH PLAIN LOGIN']}, 'starttls_refused': {'STARTTLS': '454 4.7.0 not now'},
    'starttls_never': {'STARTTLS': '502 5.5.1 not here'}, 'starttls_injected': {'STARTTLS': '220 go\r\n250 2.0.0 said too early'},
    'auth_refused': {'AUTH': '535 5.7.8 wrong'}, 'auth_later': {'AUTH': '454 4.7.0 the directory is away'},
    'auth_missing': {'MAIL': '530 5.7.0 who are you'},
    'greeting_421': {'greeting': '421 4.3.2 closing'}, 'greeting_554': {'greeting': '554 5.3.2 no mail here'},
    'greeting_drop': {'greeting': 'drop'}, 'greeting_silent': {'greeting': 'silent'}, 'greeting_garbage': {'greeting': 'HTTP/1.1 400 Bad Request'},
    'ehlo_drop': {'EHLO': 'drop'}, 'starttls_drop': {'STARTTLS': 'drop'}, 'auth_drop': {'AUTH': 'drop'}, 'mail_drop': {'MAIL': 'drop'},
    'mail_552': {'MAIL': '552 5.3.4 too big'}, 'rcpt_drop': {'RCPT': 'drop'}, 'rcpt_450': {'RCPT': '450 4.2.0 greylisted'},
    'rcpt_451': {'RCPT': '451 4.3.0 try later'}, 'rcpt_421': {'RCPT': '421 4.4.2 too busy'}, 'rcpt_550': {'RCPT': '550 5.1.1 no such person'},
    'rcpt_multiline': {'RCPT': '550-5.1.1 no\r\n550-5.1.1 such\r\n550 5.1.1 person'},
    'data_drop': {'DATA': 'drop'}, 'data_silent': {'DATA': 'silent'}, 'data_554': {'DATA': '554 5.5.1 no'}, 'text_drop': {'text': 'drop'},
    'dot_drop': {'dot': 'drop'}, 'dot_silent': {'dot': 'silent'}, 'dot_452': {'dot': '452 4.3.1 full'}, 'dot_554': {'dot': '554 5.6.0 spam'},
    'quit_silent': {'QUIT': 'silent'}, 'endless': {'EHLO': 'endless'},
}


class Ended(Exception):
    pass


class Talk:
    def __init__(self, name, link):
        self.name, self.link, self.rules = name, link, SERVERS[name]
        self.heard, self.text, self.rest, self.layer = [], None, b'', 'plain'

    def say(self, point, usual):
        answer = self.rules.get(point, usual)
        if answer == 'drop':
            raise Ended
        if answer == 'silent':
            self.link.settimeout(60)
            while self.link.recv(65536):
                pass
            raise Ended
        if answer == 'endless':
            while True:
                self.link.sendall(b'250-' + b'X' * 1000 + b'\r\n')
        self.link.sendall(answer.encode() + b'\r\n')
        return answer

    def line(self):
        while b'\n' not in self.rest:
            more = self.link.recv(65536)
            if not more:
                raise Ended
            self.rest += more
        line, self.rest = self.rest.split(b'\n', 1)
        return line.rstrip(b'\r').decode('latin-1')

    def extensions(self):
        if 'extensions' in self.rules:
            return self.rules['extensions']
        if self.layer == 'plain':
            return ['STARTTLS']
        mechanisms = self.rules.get('mechanisms', 'PLAIN LOGIN')
        return ['AUTH ' + mechanisms] if mechanisms else []

    def ehlo(self):
        lines = ['badmail', '8BITMIME', 'SIZE 10000000', *self.extensions()]
        self.say('EHLO', '\r\n'.join('250%s%s' % ('-' if n < len(lines) - 1 else ' ', text) for n, text in enumerate(lines)))

    def starttls(self):
        if not self.say('STARTTLS', '220 go').startswith('220'):
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERT, KEY)
        self.link = context.wrap_socket(self.link, server_side=True)
        self.layer, self.rest = 'tls', b''

    def auth(self, words):
        if 'AUTH' in self.rules:
            self.say('AUTH', '')
            return
        if words[1].upper() == 'PLAIN':
            if len(words) < 3:
                self.link.sendall(b'334 \r\n')
                words.append(self.line())
            given = base64.b64decode(words[2]).split(b'\0')[1:]
        else:
            given = []
            if len(words) > 2:
                given.append(base64.b64decode(words[2]))
            while len(given) < 2:
                self.link.sendall(b'334 ' + base64.b64encode((b'Username:', b'Password:')[len(given)]) + b'\r\n')
                given.append(base64.b64decode(self.line()))
        self.say('AUTH', '235 2.7.0 welcome' if given == [b'meter', b's3cret, word'] else '535 5.7.8 wrong')

    def data(self):
        if not self.say('DATA', '354 go').startswith('354'):
            return
        if 'text' in self.rules:
            self.link.recv(1000)
            time.sleep(1)
            raise Ended
        while b'\r\n.\r\n' not in self.rest:
            more = self.link.recv(65536)
            if not more:
                raise Ended
            self.rest += more
        text, self.rest = self.rest.split(b'\r\n.\r\n', 1)
        self.text = (text + b'\r\n').replace(b'\r\n..', b'\r\n.')
        if self.text.startswith(b'..'):
            self.text = self.text[1:]
        self.say('dot', '250 2.0.0 kept')

    def run(self):
        self.say('greeting', '220 badmail ESMTP')
        while True:
            line = self.line()
            words = line.split(' ')
            verb = words[0].upper()
            self.heard.append('%s %s' % (self.layer, line if verb != 'AUTH' else ' '.join(words[:2])))
            if verb in ('EHLO', 'HELO'):
                self.ehlo()
            elif verb == 'STARTTLS':
                self.starttls()
            elif verb == 'AUTH':
                self.auth(words)
            elif verb == 'DATA':
                self.data()
            elif verb == 'QUIT':
                self.say('QUIT', '221 2.0.0 bye')
                raise Ended
            else:
                self.say(verb, '250 2.1.0 fine')


def serve_one(name, link):
    talk = Talk(name, link)
    try:
        talk.run()
    except (Ended, OSError):
        pass
    seen = {'name': name, 'heard': talk.heard, 'text': None if talk.text is None else talk.text.decode('latin-1'), 'at': time.time()}
    with lock, open(os.path.join(DIRECTORY, 'badmail'), 'a') as out:
        out.write(json.dumps(seen) + '\n')
    try:
        talk.link.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    talk.link.close()


def serve(name, listener):
    while True:
        link, _ = listener.accept()
        threading.Thread(target=serve_one, args=(name, link), daemon=True).start()


def main():
    open(os.path.join(DIRECTORY, 'badmail'), 'a').close()
    for name in SERVERS:
        listener = socket.socket()
        # So that the end of a long text is still with its sender when its beginning is here.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096 if 'text' in SERVERS[name] else 1000000)
        listener.bind(('127.0.0.1', 0))
        listener.listen()
        threading.Thread(target=serve, args=(name, listener), daemon=True).start()
        print(name, listener.getsockname()[1])
    print('ready', flush=True)
    threading.Event().wait()


if __name__ == '__main__':
    main()
