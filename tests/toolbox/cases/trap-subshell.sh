trap 'echo outer' EXIT; (echo in); (trap 'echo inner' EXIT; echo x); echo end
